//! Questions and search indexes from the command line.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

fn beside(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A dozen passages and questions about them.
fn data() -> String {
    beside("reskill-envs/tests/it/search/data").to_str().unwrap().to_owned()
}

/// A sentence-embedding model of two small blocks.
fn model() -> String {
    beside("reskill-model/tests/fixtures/sentence/tiny").to_str().unwrap().to_owned()
}

/// Runs the program with its cache in `dir`.
fn run(dir: &Path, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_reskill-cli"))
        .args(args)
        .env("XDG_CACHE_HOME", dir.join("cache"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that ends early does not read all of it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{message}");
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn check_refused(dir: &Path, args: &[&str], fragments: &[&str]) {
    let output = run(dir, args, "");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.starts_with("error: ") && message.lines().count() == 1, "{message}");
    for fragment in fragments {
        assert!(message.contains(fragment), "`{fragment}` is not in: {message}");
    }
}

#[test]
fn replay_plays_a_question_by_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let replay = ["env", "replay", "--env", "search", "--data", &data(), "--actions", "-", "--game"];
    let actions = json!(["<search>Edith Carrow</search>", "nonsense", "answer the Penholt"]).to_string();
    // The first run builds the index, the others find it.
    for id in ["h1", "hotpotqa/h1"] {
        let played = lines(&run(dir.path(), &[&replay[..], &[id]].concat(), &actions));
        assert_eq!(played.len(), 4);
        assert!(
            played[0]["obs"].as_str().unwrap().contains("In which town") && played[0]["admissible"].is_null()
        );
        assert!(played[1]["obs"].as_str().unwrap().starts_with("<information>Doc 1(Title: Edith Carrow) "));
        assert_eq!((&played[2]["done"], &played[2]["score"]), (&json!(false), &json!(0)));
        assert_eq!(
            (&played[3]["done"], &played[3]["won"], &played[3]["score"]),
            (&json!(true), &json!(true), &json!(1))
        );
    }
    let listed = lines(&run(dir.path(), &[&replay[..], &["h1", "--candidates"]].concat(), "[]"));
    assert!(listed[0]["admissible"].as_array().unwrap().contains(&json!("search Marlow Bridge")));
    let unknown = run(dir.path(), &[&replay[..], &["h9"]].concat(), "[]");
    let message = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert_eq!(unknown.status.code(), Some(2), "{message}");
    for fragment in ["h9", "no such game", "nearest"] {
        assert!(message.contains(fragment), "`{fragment}` is not in: {message}");
    }
}

#[test]
fn list_and_play_show_questions_and_the_expert() {
    let dir = tempfile::tempdir().unwrap();
    let list = ["env", "list", "--json", "--env", "search", "--data", &data()];
    let unseen = lines(&run(dir.path(), &[&list[..], &["--split", "valid_unseen"]].concat(), ""));
    assert_eq!(
        (unseen.len(), &unseen[0]["id"], &unseen[0]["family"]),
        (1, &json!("popqa/p1"), &json!("popqa"))
    );
    let play = ["env", "play", "--env", "search", "--data", &data(), "--game", "n1"];
    let output =
        run(dir.path(), &play, ":hint\nsearch what is the capital of brenland\n:hint\nanswer Harwick\n");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for fragment in [
        "search what is the capital of brenland\n",
        "<information>",
        "answer Harwick\n",
        "won with 2 commands",
    ] {
        assert!(text.contains(fragment), "`{fragment}` is not in: {text}");
    }
}

#[test]
fn an_index_is_built_queried_and_kept_to_its_corpus() {
    let dir = tempfile::tempdir().unwrap();
    let (corpus, index) = (format!("{}/corpus.jsonl", data()), dir.path().join("index"));
    let index = index.to_str().unwrap();
    let model = model();
    let build = ["index", "build", "--corpus", &corpus, "--out", index];
    let built = lines(&run(dir.path(), &[&build[..], &["--json", "--dense", &model]].concat(), ""));
    assert_eq!((&built[0]["passages"], &built[0]["vectors"]["dimensions"]), (&json!(12), &json!(24)));
    check_refused(dir.path(), &build, &[index, "exists already"]);

    let query = ["index", "query", "--json", "--index", index, "--corpus", &corpus];
    let found = lines(&run(
        dir.path(),
        &[&query[..], &["lighthouse keeper", "-"]].concat(),
        "rowan medal\n\nxyzzy\n",
    ));
    assert_eq!(found.len(), 3);
    assert_eq!(found[0]["passages"][0]["title"], "Blue Lantern (film)");
    assert_eq!(found[1]["passages"][0]["title"], "Rowan Medal");
    assert_eq!(found[2]["passages"], json!([]));
    // A passage is nearest to itself, word for word.
    let itself = "River Tolle\nThe River Tolle rises in the Grey Hills and flows into the Bay of Orne after 212 miles.";
    for ranking in ["dense", "hybrid"] {
        let args = [&query[..], &["--dense", &model, "--ranking", ranking, "--top-k", "2", itself]].concat();
        let found = lines(&run(dir.path(), &args, ""));
        assert_eq!(found[0]["passages"].as_array().unwrap().len(), 2);
        assert_eq!(found[0]["passages"][0]["title"], "River Tolle", "{ranking}");
    }
    check_refused(dir.path(), &[&query[..], &["--ranking", "dense", "x"]].concat(), &["--dense is missing"]);

    let other = dir.path().join("other.jsonl");
    std::fs::write(&other, "{\"text\":\"something else\"}\n").unwrap();
    let with_other = ["index", "query", "--index", index, "--corpus", other.to_str().unwrap(), "x"];
    check_refused(dir.path(), &with_other, &["another corpus", "other.jsonl"]);
    let with_other = ["index", "build", "--corpus", other.to_str().unwrap(), "--out", index, "--memory", "1"];
    check_refused(dir.path(), &with_other, &["--memory 1", "16 to 4000"]);
    check_refused(dir.path(), &["index", "query", "--index", "/nowhere", "x"], &["/nowhere", "index build"]);
}

#[test]
fn a_damaged_cache_is_built_again_and_a_damaged_index_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let list = ["env", "list", "--env", "search", "--data", &data()];
    assert!(run(dir.path(), &list, "").status.success());
    let kept =
        std::fs::read_dir(dir.path().join("cache/reskill/search")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(kept.join("bm25/meta.json"), "{}").unwrap();
    check_refused(
        dir.path(),
        &[&list[..], &["--index", kept.to_str().unwrap()]].concat(),
        &["meta.json", "index build"],
    );
    assert!(run(dir.path(), &list, "").status.success());
    assert!(
        run(dir.path(), &[&list[..], &["--index", kept.to_str().unwrap()]].concat(), "").status.success()
    );
    check_refused(dir.path(), &["env", "list", "--env", "search"], &["--data is missing", "question files"]);
    check_refused(dir.path(), &["env", "list", "--env", "household", "--candidates"], &["--env search"]);
}

#[test]
fn a_small_policy_trains_on_questions_and_reports_exact_match_and_f1() {
    let dir = tempfile::tempdir().unwrap();
    let (out, config) = (dir.path().join("run"), beside("configs/search.toml"));
    let sets = [
        format!("env.data={}", data()),
        "policy.model.hidden_size=16".into(),
        "policy.model.intermediate_size=32".into(),
        "policy.model.num_hidden_layers=1".into(),
        "policy.model.num_attention_heads=2".into(),
        "policy.model.head_dim=8".into(),
        "sft.episodes=4".into(),
        "sft.epochs=1".into(),
        "rollout.tasks_per_step=2".into(),
        "rollout.group_size=2".into(),
        "grpo.steps=1".into(),
        "eval.games=4".into(),
        "eval.every=0".into(),
    ];
    let mut args = vec!["train", "--config", config.to_str().unwrap(), "--out", out.to_str().unwrap()];
    sets.iter().for_each(|set| args.extend(["--set", set]));
    let output = run(dir.path(), &args, "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("summary.json")).unwrap()).unwrap();
    let evaluations = summary["evaluations"].as_object().unwrap();
    assert!(!evaluations.is_empty());
    for evaluation in evaluations.values() {
        let measures = &evaluation["measures"];
        assert_eq!(measures["exact_match"]["all"], evaluation["overall"]["rate"]);
        let (f1, exact) =
            (measures["f1"]["all"].as_f64().unwrap(), measures["exact_match"]["all"].as_f64().unwrap());
        assert!((0.0..=1.0).contains(&f1) && f1 >= exact, "{measures}");
        // By set.
        assert_eq!(
            measures["f1"].as_object().unwrap().len(),
            evaluation["families"].as_object().unwrap().len() + 1
        );
    }
}
