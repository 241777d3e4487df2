//! A server that misbehaves in every way: each fault has its kind, is counted, and no key leaves the process.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use reskill_skills::creator::llm::openai::OpenAi;
use reskill_skills::creator::llm::{ChatModel, LlmCreator, Message, Role, Schema, Secret, open};
use reskill_skills::{CreatorConfig, CreatorKind};
use serde_json::json;

use super::server::{Act, Server};
use super::{World, brain, cost, quick};

const KEY: &str = "sk-test-0123456789abcdef";

fn config(url: &str) -> CreatorConfig {
    CreatorConfig {
        kind: CreatorKind::Openai,
        base_url: Some(url.to_owned()),
        api_key_env: Some("TEST_KEY".into()),
        timeout_secs: 0.5,
        max_response_bytes: 1 << 20,
        max_attempts: 3,
        ..quick()
    }
}

fn creator(config: &CreatorConfig) -> LlmCreator {
    open(config, 0, &|name| (name == "TEST_KEY").then(|| KEY.to_owned())).unwrap()
}

fn good(seen: &super::server::Seen) -> Act {
    let (stage, prompt) = brain::openai_stage(&seen.body);
    let text = brain::answer(&stage, &prompt).to_string();
    Act::Answer(200, Vec::new(), brain::openai_response(&text).to_string())
}

/// A fault at the first request of a run, mended by another attempt.
fn check_passing(fault: impl Fn() -> Act + Send + Sync + 'static, kind: &str) {
    let server = Server::start(move |seen, n| if n == 0 { fault() } else { good(seen) });
    let mut creator = creator(&config(&server.url));
    let proposal = World::new().ask(&mut creator, 1);
    assert!(proposal.is_ok_and(|proposal| proposal.is_some()), "{kind}");
    let cost = cost(&creator);
    assert_eq!(
        (cost.errors.get(kind), cost.retries, cost.calls),
        (Some(&1), 1, 4),
        "{kind}: {:?}",
        cost.errors
    );
}

#[test]
fn faults_that_pass_are_waited_out_and_counted() {
    let answer =
        |status: u16, headers: Vec<(&'static str, String)>| Act::Answer(status, headers, "{}".into());
    check_passing(move || answer(429, vec![]), "rate_limited");
    check_passing(move || answer(429, vec![("retry-after", "0".into())]), "rate_limited");
    let past = httpdate_of(SystemTime::now() - Duration::from_secs(5));
    check_passing(move || answer(429, vec![("Retry-After", past.clone())]), "rate_limited");
    check_passing(move || answer(500, vec![]), "server");
    check_passing(move || answer(529, vec![]), "server");
    check_passing(
        move || Act::Answer(200, vec![], r#"{"error": {"message": "overloaded"}}"#.into()),
        "server",
    );
    check_passing(|| Act::Hang(Duration::from_secs(2)), "timeout");
    check_passing(|| Act::Close, "connection");
    check_passing(|| Act::BreakOff(r#"{"choices": [{"mess"#.into()), "connection");
    check_passing(|| Act::Answer(200, vec![], r#"{"choices": [{"mess"#.into()), "malformed");
    check_passing(|| Act::Answer(200, vec![], String::new()), "malformed");
    check_passing(|| Act::Answer(200, vec![], brain::openai_response("").to_string()), "empty");
}

fn httpdate_of(time: SystemTime) -> String {
    httpdate::fmt_http_date(time)
}

#[test]
fn retry_after_is_waited_for_and_no_longer_than_allowed() {
    let times = Mutex::new(Vec::new());
    let server = Server::start(move |seen, n| {
        let mut times = times.lock().unwrap();
        times.push(SystemTime::now());
        match n {
            0 => Act::Answer(429, vec![("retry-after", "1".into())], String::new()),
            // The client must not have come back sooner than it was told to.
            1 if times[1].duration_since(times[0]).unwrap() < Duration::from_secs(1) => Act::Close,
            _ => good(seen),
        }
    });
    let mut patient = creator(&config(&server.url));
    World::new().ask(&mut patient, 1).unwrap();
    assert_eq!(cost(&patient).n_errors(), 1);

    let server = Server::start(|_, _| Act::Answer(429, vec![("retry-after", "7200".into())], String::new()));
    let mut impatient = creator(&config(&server.url));
    let error = World::new().ask(&mut impatient, 1).unwrap_err();
    assert!(source(&error).contains("7200 s"), "{error:?}");
    assert_eq!(server.seen().len(), 1);
}

fn source(error: &reskill_skills::SkillError) -> String {
    std::error::Error::source(error).map_or_else(String::new, ToString::to_string)
}

/// A fault at every request; returns how many there were.
fn check_lasting(act: impl Fn() -> Act + Send + Sync + 'static, kind: &str, fragment: &str) -> usize {
    let server = Server::start(move |_, _| act());
    let mut creator = creator(&config(&server.url));
    let error = World::new().ask(&mut creator, 1).unwrap_err();
    assert!(source(&error).contains(fragment), "{kind}: {error:?}");
    assert!(!format!("{error:?}{error}").contains(KEY), "{kind}: the key is in the error");
    assert!(cost(&creator).errors[kind] >= 1, "{kind}");
    server.seen().len()
}

#[test]
fn faults_that_last_end_in_an_error_that_says_what_to_do() {
    let answer = |status: u16, text: &str| {
        let text = text.to_owned();
        move || Act::Answer(status, vec![], text.clone())
    };
    let echo = format!("{{\"error\": \"bad key {KEY}\"}}");
    assert_eq!(check_lasting(answer(401, &echo), "unauthorized", "[key]"), 1);
    assert_eq!(check_lasting(answer(404, "no such model"), "rejected", "check base_url and model"), 1);
    assert_eq!(check_lasting(answer(400, "bad"), "rejected", "status 400: bad"), 1);
    let moved = || Act::Answer(302, vec![("location", "http://127.0.0.1:1/".into())], String::new());
    assert_eq!(check_lasting(moved, "rejected", "redirects are not followed"), 1);
    assert_eq!(check_lasting(answer(200, &"x".repeat(10 << 20)), "too_large", "1048576 bytes"), 1);
    assert_eq!(check_lasting(answer(200, "{}"), "malformed", "no `choices[0]`"), 3);
    let cut =
        json!({"choices": [{"message": {"content": "{\"find"}, "finish_reason": "length"}]}).to_string();
    assert_eq!(check_lasting(answer(200, &cut), "length_limit", "raise max_tokens"), 1);
    let no = json!({"choices": [{"message": {"content": null, "refusal": "I will not"}}]}).to_string();
    assert_eq!(check_lasting(answer(200, &no), "declined", "I will not"), 1);
    assert_eq!(check_lasting(|| Act::Hang(Duration::from_secs(3)), "timeout", "(3 attempts)"), 3);
}

#[test]
fn nobody_at_the_address_is_a_connection_error() {
    let mut creator = creator(&config("http://127.0.0.1:1/v1"));
    World::new().ask(&mut creator, 1).unwrap_err();
    assert_eq!(cost(&creator).errors["connection"], 3);
}

#[test]
fn a_key_that_the_model_repeats_is_blotted_out_of_reply_and_record() {
    let server = Server::start(|_, _| {
        let text = json!({"finding": format!("the key is {KEY}")}).to_string();
        Act::Answer(200, vec![], brain::openai_response(&text).to_string())
    });
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&server.url);
    config.record_dir = Some(dir.path().to_owned());
    let model = OpenAi::new(&config, "tiny", Secret::new(KEY));
    let schema = Schema::of::<String>("contrast");
    let reply = model.complete(&[Message::new(Role::User, "hello")], &schema).unwrap();
    assert!(reply.text.contains("[key]") && !reply.text.contains(KEY), "{}", reply.text);
    assert!(!format!("{model:?}").contains(KEY));
    World::new().ask(&mut creator(&config), 2).unwrap_err();
    let mut n_files = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!text.contains(KEY) && !text.to_lowercase().contains("bearer"), "{text}");
        n_files += 1;
    }
    assert!(n_files >= 2);
    // The server got it, in the header alone.
    let seen = server.seen();
    assert_eq!(seen[0].header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert!(!seen[0].body.to_string().contains(KEY));
}

#[test]
fn a_creator_that_cannot_work_is_refused_at_once_with_a_remedy() {
    let refused = |change: &dyn Fn(&mut CreatorConfig)| {
        let mut config = config("http://127.0.0.1:1/v1");
        change(&mut config);
        open(&config, 0, &|_| None).unwrap_err().to_string()
    };
    let unset = refused(&|_| ());
    assert!(unset.contains("TEST_KEY is not set") && unset.contains("api_key_env"), "{unset}");
    let no_model = refused(&|config| config.model = None);
    assert!(no_model.contains("creator.model"), "{no_model}");
    let no_folder = refused(&|config| {
        config.kind = CreatorKind::Replay;
        config.replay_dir = Some("/nowhere/calls".into());
    });
    assert!(no_folder.contains("/nowhere/calls"), "{no_folder}");
    let offline = refused(&|config| config.kind = CreatorKind::Offline);
    assert!(offline.contains("no language model"), "{offline}");
    // A local server needs no key.
    let mut local = config("http://127.0.0.1:1/v1");
    local.api_key_env = Some(String::new());
    assert!(open(&local, 0, &|_| None).is_ok());
}
