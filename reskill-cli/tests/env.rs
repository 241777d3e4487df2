//! The commands `env` and `bench env` as people and programs run them.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use reskill_envs::household::{Household, HouseholdConfig};
use reskill_envs::{Split, Suite};
use serde_json::{Value, json};

fn run(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_reskill-cli"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses its arguments may be gone before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A tree of exported games; its folder, and the id of its first game.
fn tree(dir: &Path) -> (PathBuf, String) {
    let config = HouseholdConfig { n_train: 6, n_seen: 2, n_unseen: 2, ..HouseholdConfig::default() };
    let suite = Household::generate(&config).unwrap();
    suite.export(dir).unwrap();
    (dir.to_path_buf(), suite.tasks(Split::Train)[0].id.0.clone())
}

fn check_refused(args: &[&str], input: &str, fragments: &[&str]) {
    let output = run(args, input);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.starts_with("error: ") && message.lines().count() == 1, "{message}");
    for fragment in fragments {
        assert!(message.contains(fragment), "`{fragment}` is not in: {message}");
    }
}

#[test]
fn replay_prints_the_agreed_lines_and_wins_by_the_walkthrough() {
    let dir = tempfile::tempdir().unwrap();
    let (data, id) = tree(dir.path());
    let file = data.join(&id).join("game.tw-pddl");
    let game: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let mut actions: Vec<Value> = game["walkthrough"].as_array().unwrap().clone();
    actions.insert(0, json!(" look "));
    actions.insert(1, json!("fly"));
    let list = dir.path().join("actions.json");
    std::fs::write(&list, Value::from(actions.clone()).to_string()).unwrap();
    let common = ["env", "replay", "--env", "alfworld", "--actions"];
    let (file, list, data) = (file.to_str().unwrap(), list.to_str().unwrap(), data.to_str().unwrap());
    let from_file = lines(&run(&[&common[..], &[list, "--data", file]].concat(), ""));
    let whole = [&common[..], &["-", "--data", data, "--game", &id]].concat();
    assert_eq!(from_file, lines(&run(&whole, &Value::from(actions.clone()).to_string())));

    assert_eq!(from_file.len(), 1 + actions.len());
    let keys = |line: &Value| line.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(keys(&from_file[0]), "admissible obs");
    for (line, action) in from_file[1..].iter().zip(&actions) {
        assert_eq!(keys(line), "action admissible done obs score won");
        assert_eq!(line["action"], *action);
    }
    assert_eq!(from_file[2]["obs"], "Nothing happens.");
    assert_eq!(from_file[2]["score"], json!(0));
    let last = from_file.last().unwrap();
    assert_eq!((&last["score"], &last["done"], &last["won"]), (&json!(1), &json!(true), &json!(true)));
}

#[test]
fn list_filters_by_split_and_family_and_draws_an_order() {
    let dir = tempfile::tempdir().unwrap();
    let (data, id) = tree(dir.path());
    let data = data.to_str().unwrap();
    let ids = |more: &[&str]| -> Vec<String> {
        let args = [&["env", "list", "--json", "--env", "alfworld", "--data", data], more].concat();
        lines(&run(&args, "")).iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect()
    };
    let all = ids(&[]);
    assert_eq!(all.len(), 10);
    assert!(ids(&["--split", "valid_unseen"]).iter().all(|id| id.starts_with("valid_unseen/")));
    assert_eq!(ids(&["--split", "train", "--type", "pick_and_place_simple"]), [id]);
    let train = ids(&["--split", "train"]);
    let orders: Vec<Vec<String>> =
        (0..4).map(|seed| ids(&["--split", "train", "--order-seed", &seed.to_string()])).collect();
    assert_eq!(orders[1], ids(&["--split", "train", "--order-seed", "1"]));
    assert!(orders.iter().any(|order| *order != train));
    for mut order in orders {
        order.sort();
        assert_eq!(order, train);
    }
}

#[test]
fn play_takes_numbers_and_words_hints_and_leaves() {
    let output = run(&["env", "play", "--env", "household"], ":hint\n1\nlook\ndance\n:q\n");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success());
    assert!(
        text.contains("task: ") && text.contains("   1  ") && text.contains("Nothing happens."),
        "{text}"
    );
    // Hints alone win.
    let mut played = String::new();
    for _ in 0..30 {
        let text = run(&["env", "play", "--env", "household"], &format!("{played}:hint\n")).stdout;
        let text = String::from_utf8_lossy(&text).into_owned();
        if text.contains("won with") {
            return;
        }
        let hint = text.split(":hint\n").last().unwrap().lines().next().unwrap().to_owned();
        played.push_str(&format!("{hint}\n"));
    }
    panic!("not won after 30 hints: {played}");
}

#[test]
fn wrong_names_and_files_are_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let (data, id) = tree(dir.path());
    let data = data.to_str().unwrap();
    let common = ["env", "replay", "--env", "alfworld", "--data", data, "--actions", "-", "--game"];
    let nearly = id.replace("_0000", "_0009");
    check_refused(&[&common[..], &[&nearly]].concat(), "[]", &[&nearly, "no such game", &id]);
    check_refused(&[&common[..], &[&id]].concat(), "look", &["standard input", "JSON list of strings"]);
    check_refused(&common[..8], "[]", &["--game is missing", "env list"]);
    check_refused(&["env", "list", "--env", "alfworld"], "", &["--data is missing"]);
    check_refused(&["env", "list", "--env", "household", "--data", data], "", &["--data", "generated"]);
    check_refused(&["env", "list", "--env", "household", "--split", "test"], "", &["--split test", "unseen"]);
    check_refused(
        &["env", "list", "--env", "household", "--type", "swim"],
        "",
        &["swim", "pick_and_place_simple"],
    );
    check_refused(&["env", "list", "--env", "alfworld", "--data", "/nowhere"], "", &["/nowhere"]);
    let file = dir.path().join(&id).join("game.tw-pddl");
    let broken = std::fs::read_to_string(&file).unwrap().replacen("(:action open", "(:action open)", 1);
    std::fs::write(&file, broken).unwrap();
    let file = file.to_str().unwrap();
    let args = ["env", "replay", "--env", "alfworld", "--data", file, "--actions", "-"];
    check_refused(&args, "[]", &["game.tw-pddl", "pddl_domain", "line "]);
}

#[test]
fn bench_env_prints_every_case_with_its_machine() {
    let small = ["bench", "env", "--json", "--games", "6", "--turns", "5", "--rounds", "2"];
    let cases = lines(&run(&small, ""));
    // Not every system tells the processor time, nor that of a walk so short.
    let is_by_clock = |case: &&Value| !case["case"].as_str().unwrap().contains("processor");
    let cases: Vec<&Value> = cases.iter().filter(is_by_clock).collect();
    let names: Vec<&str> = cases.iter().map(|case| case["case"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "household: reset of a parsed game",
            "household: steps, 1 thread(s)",
            "household: steps, 2 thread(s)"
        ]
    );
    for case in cases {
        assert!(case["median"].as_f64().unwrap() > 0.0 && case["rounds"] == 2, "{case}");
        assert!(case["machine"]["cores"].as_u64().unwrap() >= 1, "{case}");
    }
    check_refused(&["bench", "env", "--turns", "0"], "", &["--turns 0", "at least 1"]);
}
