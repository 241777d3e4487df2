//! `eval` and `config` as a person runs them.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// A run of seconds: few games, few steps, a small network, a bank of one skill.
const SMALL: &[&str] = &[
    "env.household.n_train=30",
    "env.household.n_seen=12",
    "env.household.n_unseen=12",
    "policy.model.hidden_size=32",
    "policy.model.intermediate_size=48",
    "policy.model.num_hidden_layers=1",
    "policy.model.num_attention_heads=2",
    "policy.model.num_key_value_heads=1",
    "policy.model.head_dim=16",
    "sft.episodes=48",
    "sft.epochs=2",
    "rollout.tasks_per_step=2",
    "rollout.group_size=2",
    "grpo.steps=1",
    "eval.games=12",
    "eval.every=0",
    "skills.mode=static",
];

fn reskill(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_reskill-cli")).args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn check_refused(args: &[&str], fragment: &str) {
    let output = reskill(args);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains(fragment) && !message.contains("panicked"), "`{fragment}` is not in: {message}");
}

fn train(run: &Path) {
    let bank = run.parent().unwrap().join("bank");
    std::fs::create_dir_all(bank.join("open-it")).unwrap();
    let skill = "---\nname: open-it\ndescription: Opens what is closed.\nmetadata:\n  reskill-trigger: action_pattern\n  \
                 reskill-pattern: \"^go to\"\n---\nnext open\n";
    std::fs::write(bank.join("open-it/SKILL.md"), skill).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_reskill-cli"));
    command.args(["train", "--out", run.to_str().unwrap(), "--set"]);
    command.arg(format!("bank={:?}", bank.to_str().unwrap()));
    for one in SMALL {
        command.args(["--set", one]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn eval_measures_a_run_with_its_bank_and_without_and_against_what_was_played() {
    let dir = tempfile::tempdir().unwrap();
    let (run, episodes) = (dir.path().join("run"), dir.path().join("episodes.jsonl"));
    train(&run);
    let (run, episodes) = (run.to_str().unwrap(), episodes.to_str().unwrap());
    let args = ["eval", run, "--split", "unseen", "--seeds", "2", "--json", "--episodes", episodes];
    let text = stdout(&reskill(&args));
    let report: Value = serde_json::from_str(&text).unwrap();
    let split = &report["splits"][0];
    let names: Vec<&str> =
        split["played"].as_array().unwrap().iter().map(|one| one["played"].as_str().unwrap()).collect();
    assert_eq!(names, ["its bank", "bank off"]);
    assert_eq!(split["split"], "valid_unseen");
    assert_eq!(split["played"][0]["success"]["n_games"], 12);
    assert_eq!(split["played"][0]["n_episodes"], 24);
    let family_games: u64 = split["played"][0]["families"]
        .as_object()
        .unwrap()
        .values()
        .map(|f| f["n_games"].as_u64().unwrap())
        .sum();
    assert_eq!(family_games, 12);
    let by_seed = split["played"][0]["by_seed"].as_object().unwrap();
    let mean = by_seed.values().map(|rate| rate.as_f64().unwrap()).sum::<f64>() / 2.0;
    assert!((mean - split["played"][0]["success"]["mean"].as_f64().unwrap()).abs() < 1e-12);
    let difference = &split["comparisons"][0];
    let expected = ["its bank", "bank off"].map(Value::from);
    assert_eq!([&difference["of"], &difference["against"]], [&expected[0], &expected[1]]);
    assert_eq!(std::fs::read_to_string(episodes).unwrap().lines().count(), 48);

    // The numbers do not depend on how many episodes run side by side.
    let one_by_one = ["eval", run, "--split", "unseen", "--seeds", "2", "--json", "--slots", "1"];
    assert_eq!(stdout(&reskill(&one_by_one)), text);

    // The run against its own episodes: no difference at all.
    let again = ["eval", run, "--split", "unseen", "--bank", "live", "--against", episodes, "--json"];
    let report: Value = serde_json::from_str(&stdout(&reskill(&again))).unwrap();
    let same = &report["splits"][0]["comparisons"][0]["success"];
    assert_eq!((same["mean"].as_f64(), same["p_value"].as_f64()), (Some(0.0), Some(1.0)));
    assert_eq!(same["n_games"], 12);

    let table = stdout(&reskill(&["eval", run, "--greedy", "--bank", "off"]));
    assert!(table.contains("the likeliest tokens") && table.contains("valid_seen"), "{table}");

    check_refused(&["eval", run, "--set", "policy.model.hidden_size=8"], "env, eval and rollout only");
    check_refused(&["eval", run, "--bank", "nowhere"], "a folder of Agent Skills");
    check_refused(&["eval", run, "--games", "0"], "--games 0");
    check_refused(&["eval", run, "--split", "valid-train"], "has no games");
    let seeds = ["eval", run, "--split", "seen", "--against", episodes];
    check_refused(&seeds, "holds no episode of valid_seen");
    check_refused(&["eval", dir.path().to_str().unwrap()], "not a run directory");
}

#[test]
fn config_shows_checks_and_compares() {
    let dir = tempfile::tempdir().unwrap();
    let shown = stdout(&reskill(&["config", "show", "--set", "rollout.group_size=4"]));
    let file = dir.path().join("mine.toml");
    std::fs::write(&file, &shown).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(stdout(&reskill(&["config", "show", file])), shown, "what is shown resolves to itself");
    let presets = stdout(&reskill(&["config", "list"]));
    assert!(presets.lines().any(|line| line == "alfworld"), "{presets}");
    assert_eq!(stdout(&reskill(&["config", "diff", "default", file])), "rollout.group_size: 8 -> 4\n");
    let equal = reskill(&["config", "diff", "default", "default", "--exit-code"]);
    assert_eq!(equal.status.code(), Some(0));
    assert_eq!(reskill(&["config", "diff", "default", file, "--exit-code"]).status.code(), Some(1));
    assert_eq!(reskill(&["config", "check", file]).status.code(), Some(0));
    std::fs::write(file, shown.replace("group_size", "group_sise")).unwrap();
    let output = reskill(&["config", "check", "default", file]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("default: valid") && said.contains("did you mean `group_size`?"), "{said}");
    check_refused(&["config", "show", "alfword"], "or a preset: default, alfworld");
}
