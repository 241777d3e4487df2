//! A retriever behind HTTP survives what it can, and says what it met otherwise.

use std::sync::Arc;
use std::time::Duration;

use super::data;
use super::server::{Act, Server};
use reskill_envs::search::{HttpConfig, HttpRetriever, Retriever, RetrieverKind, Search, SearchConfig};
use reskill_envs::{EnvError, Fault, Suite, TaskId};
use serde_json::{Value, json};

fn config(urls: &[&str]) -> HttpConfig {
    HttpConfig {
        urls: urls.iter().map(ToString::to_string).collect(),
        timeout_secs: 0.4,
        max_attempts: 4,
        retry_base_secs: 0.001,
        retry_cap_secs: 0.002,
        ..HttpConfig::default()
    }
}

/// As Search-R1's server answers: `topk` documents a query, named after it.
fn answer(request: &Value) -> Act {
    let top_k = request["topk"].as_u64().unwrap();
    let list = |query: &Value| -> Value {
        let query = query.as_str().unwrap();
        (0..top_k)
            .map(|rank| json!({"document": {"id": rank, "contents": format!("{query} {rank}\ntext")}, "score": 1.0}))
            .collect()
    };
    let lists: Vec<Value> = request["queries"].as_array().unwrap().iter().map(list).collect();
    Act::Answer(200, json!({ "result": lists }).to_string())
}

fn ask(config: &HttpConfig) -> Result<Vec<String>, Fault> {
    let retriever = HttpRetriever::new(config).unwrap();
    match retriever.retrieve(&["a", "b"], 2) {
        Ok(lists) => Ok(lists.into_iter().flatten().map(|passage| passage.title).collect()),
        Err(EnvError::Fault { program, fault }) => {
            assert!(config.urls.iter().any(|url| program.contains(url)), "{program}");
            Err(fault)
        }
        Err(other) => panic!("{other}"),
    }
}

const TITLES: [&str; 4] = ["a 0", "a 1", "b 0", "b 1"];

#[test]
fn a_request_is_that_of_search_r1() {
    let server = Server::start(|request, _| answer(request));
    assert_eq!(ask(&config(&[&server.url])).unwrap(), TITLES);
    assert_eq!(server.seen(), [json!({"queries": ["a", "b"], "topk": 2, "return_scores": true})]);
}

#[test]
fn many_queries_go_in_batches_and_come_back_in_order() {
    let server = Server::start(|request, _| answer(request));
    let retriever = HttpRetriever::new(&HttpConfig { batch_size: 3, ..config(&[&server.url]) }).unwrap();
    let queries: Vec<String> = (0..7).map(|n| n.to_string()).collect();
    let queries: Vec<&str> = queries.iter().map(String::as_str).collect();
    let lists = retriever.retrieve(&queries, 1).unwrap();
    let titles: Vec<String> = lists.into_iter().map(|list| list[0].title.clone()).collect();
    assert_eq!(titles, ["0 0", "1 0", "2 0", "3 0", "4 0", "5 0", "6 0"]);
    let sizes: Vec<usize> =
        server.seen().iter().map(|body| body["queries"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [3, 3, 1]);
}

#[test]
fn a_server_that_recovers_is_asked_again() {
    for bad in [429, 500, 503] {
        let server = Server::start(move |request, number| match number {
            0 => Act::Answer(bad, "busy".into()),
            1 => Act::Close,
            _ => answer(request),
        });
        assert_eq!(ask(&config(&[&server.url])).unwrap(), TITLES);
        assert_eq!(server.seen().len(), 3);
    }
}

#[test]
fn requests_take_turns_and_pass_over_a_server_that_is_down() {
    let (one, two) =
        (Server::start(|request, _| answer(request)), Server::start(|request, _| answer(request)));
    let retriever =
        HttpRetriever::new(&config(&[&one.url, "http://127.0.0.1:1/retrieve", &two.url])).unwrap();
    for _ in 0..6 {
        assert_eq!(retriever.retrieve(&["a"], 1).unwrap()[0][0].title, "a 0");
    }
    // Those that begin at the one that is down go to the next.
    assert_eq!((one.seen().len(), two.seen().len()), (2, 4));
}

#[test]
fn attempts_are_bounded_and_the_fault_says_what_was_met() {
    let check = |act: fn(&Value) -> Act, attempts: usize, is_expected: fn(&Fault) -> bool| {
        let server = Server::start(move |request, _| act(request));
        let fault = ask(&config(&[&server.url])).unwrap_err();
        assert!(is_expected(&fault), "{fault}");
        // An attempt may have been given up before the server, on a busy machine, came to read it.
        for _ in 0..500 {
            if server.seen().len() < attempts {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        assert_eq!(server.seen().len(), attempts, "{fault}");
    };
    check(|_| Act::Hang(Duration::from_secs(2)), 4, |fault| matches!(fault, Fault::TimedOut { .. }));
    check(|_| Act::Close, 4, |fault| matches!(fault, Fault::Lost { .. }));
    check(
        |_| Act::Answer(500, "out of memory".into()),
        4,
        |fault| fault.to_string().contains("out of memory"),
    );
    // Asking again would change nothing.
    check(|_| Act::Answer(404, "no such page".into()), 1, |fault| fault.to_string().contains("status 404"));
    check(|_| Act::Answer(200, "<html>".into()), 4, |fault| fault.to_string().contains("not JSON"));
    check(|_| Act::Answer(200, "{\"results\":[]}".into()), 4, |fault| fault.to_string().contains("`result`"));
    check(
        |_| Act::Answer(200, "{\"result\":[[]]}".into()),
        4,
        |fault| matches!(fault, Fault::Protocol { reason, .. } if reason.contains("1 lists of passages for 2 queries")),
    );
}

#[test]
fn a_server_that_is_not_there_is_a_fault() {
    let fault = ask(&config(&["http://127.0.0.1:1/retrieve"])).unwrap_err();
    assert!(matches!(fault, Fault::Lost { .. }), "{fault}");
}

#[test]
fn too_long_a_response_is_refused() {
    let server = Server::start(|request, _| answer(request));
    let fault = ask(&HttpConfig { max_response_bytes: 20, ..config(&[&server.url]) }).unwrap_err();
    assert!(fault.to_string().contains("more than 20 bytes"), "{fault}");
}

#[test]
fn more_passages_than_asked_for_are_cut() {
    let many = json!({"result": [[{"contents": "T0\nx"}, {"contents": "T1\nx"}, {"contents": "T2\nx"}]]})
        .to_string();
    let server = Server::start(move |_, _| Act::Answer(200, many.clone()));
    let retriever = HttpRetriever::new(&config(&[&server.url])).unwrap();
    assert_eq!(retriever.retrieve(&["a"], 2).unwrap()[0].len(), 2);
}

#[test]
fn a_lost_server_costs_the_step_and_not_the_suite() {
    let server = Server::start(|request, number| if number < 4 { Act::Close } else { answer(request) });
    let settings = SearchConfig {
        retriever: RetrieverKind::Http,
        http: config(&[&server.url]),
        ..SearchConfig::default()
    };
    let retriever = Arc::new(HttpRetriever::new(&settings.http).unwrap());
    let suite = Search::open_path(&data(), retriever, &settings).unwrap();
    let mut env = suite.open(&TaskId("nq/n1".into())).unwrap();
    env.reset().unwrap();
    assert!(env.step("search brenland").unwrap_err().is_fault());
    let mut env = suite.open(&TaskId("nq/n1".into())).unwrap();
    env.reset().unwrap();
    assert!(env.step("search brenland").unwrap().observation.text.contains("Doc 1(Title: brenland 0) text"));
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let base = || config(&["http://127.0.0.1:1/retrieve"]);
    for (config, key) in [
        (HttpConfig { urls: vec![], ..base() }, "http.urls"),
        (HttpConfig { urls: vec!["127.0.0.1".into()], ..base() }, "http.urls"),
        (HttpConfig { timeout_secs: 0.0, ..base() }, "http.timeout_secs"),
        (HttpConfig { timeout_secs: f64::NAN, ..base() }, "http.timeout_secs"),
        (HttpConfig { max_attempts: 0, ..base() }, "http.max_attempts"),
        (HttpConfig { retry_base_secs: -1.0, ..base() }, "http.retry_base_secs"),
        (HttpConfig { batch_size: 0, ..base() }, "http.batch_size"),
    ] {
        let message = HttpRetriever::new(&config).unwrap_err().to_string();
        assert!(message.contains(key), "`{key}` is not in: {message}");
    }
}
