//! Studies from the command line: what is finished is not run again, what is packed gives the same report, what does not fit is refused.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

const STUDY: &str = r#"
title = "Small"
baseline = "grpo"
seeds = 2
parallel = 2
set = [
    "threads=1", "env.household.n_train=40", "env.household.n_seen=12", "env.household.n_unseen=12", "sft.episodes=20",
    "sft.epochs=1", "rollout.tasks_per_step=2", "rollout.group_size=4", "grpo.steps=4", "policy.model.hidden_size=16",
    "policy.model.intermediate_size=32", "policy.model.num_hidden_layers=1", "policy.model.num_attention_heads=2",
    "policy.model.num_key_value_heads=1", "policy.model.head_dim=8", "eval.games=12", "eval.games_during=6", "eval.every=2",
]

[[arm]]
name = "grpo"
config = "ablation-off"

[[arm]]
name = "shuffled"
note = "outcomes dealt anew"
set = ["skills.version_test.shuffle_outcomes=true"]
seeds = 1
control = true

[[arm]]
name = "lively"
note = "every proposal is accepted"
seeds = 1
set = [
    "bank=bank", "skills.version_test.rule=auto_accept", "skills.reservoir.min=2", "skills.creator.offline.level=1.0",
    "skills.creator.offline.min_z=0.01", "skills.creator.offline.min_gain=0.0001", "skills.creator.offline.min_episodes=1",
    "skills.creator.offline.max_share=1.0", "skills.verify.min_rate=0.05", "skills.verify.min_overall=0.01",
    "sft.episodes=300", "sft.epochs=4", "grpo.steps=6", "policy.model.hidden_size=48", "policy.model.head_dim=16",
    "rollout.tasks_per_step=8", "rollout.group_size=6",
]
"#;

const SKILL: &str = "---\nname: open-it\ndescription: After going somewhere.\nmetadata:\n  reskill-guidance: next open\n  reskill-id: s0000\n  \
                     reskill-pattern: \"^go to\"\n  reskill-trigger: action_pattern\n---\n\nnext open\n";

fn reskill(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reskill-cli"));
    command.current_dir(folder).args(args).stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_study_is_run_once_reported_and_packed() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    std::fs::write(at.join("study.toml"), STUDY).unwrap();
    std::fs::create_dir_all(at.join("bank/open-it")).unwrap();
    std::fs::write(at.join("bank/open-it/SKILL.md"), SKILL).unwrap();
    let run = || reskill(at, &["study", "run", "study.toml", "--out", "s"]);

    let first = run();
    assert_eq!(first.status.code(), Some(0), "{}", said(&first));
    assert!(said(&first).contains("4 runs of 3 arms, 0 finished before"), "{}", said(&first));
    assert_eq!(said(&first).lines().filter(|line| line.contains("unseen")).count(), 4);
    let summary = at.join("s/runs/grpo/seed-1/summary.json");
    let before = std::fs::read(&summary).unwrap();
    // One run is lost: it alone is run again, and comes out as before but for the clock.
    std::fs::remove_dir_all(at.join("s/runs/grpo/seed-0")).unwrap();
    let second = run();
    assert!(said(&second).contains("3 finished before"), "{}", said(&second));
    assert_eq!(std::fs::read(&summary).unwrap(), before);

    let report = reskill(at, &["study", "report", "s"]);
    assert_eq!(report.status.code(), Some(0), "{}", said(&report));
    let table = String::from_utf8(report.stdout).unwrap();
    assert!(table.contains("4 of 4 runs; the baseline is `grpo`"), "{table}");
    assert!(
        table.contains("Negative control `shuffled`") && table.contains("- `shuffled`: outcomes dealt anew"),
        "{table}"
    );
    let files = |folder: &str| {
        ["table.md", "report.html"].map(|name| std::fs::read(at.join(folder).join(name)).unwrap())
    };
    let packed = reskill(at, &["study", "pack", "s", "p"]);
    assert_eq!(packed.status.code(), Some(0), "{}", said(&packed));
    assert!(at.join("p/runs/grpo/seed-0/metrics.jsonl.zst").is_file());
    assert!(!at.join("p/runs/grpo/seed-0/checkpoints").exists());
    assert!(reskill(at, &["study", "report", "p"]).status.success());
    assert!(files("s") == files("p"), "the packed study gives another report");
    // No path of this machine is packed.
    let config = std::fs::read_to_string(at.join("p/runs/lively/seed-0/config.toml")).unwrap();
    assert!(config.contains("bank = \"bank\"") && !config.contains(at.to_str().unwrap()), "{config}");
    let best = std::fs::read_to_string(at.join("p/runs/grpo/seed-0/best.json")).unwrap();
    assert!(best.contains("\"run\": \"runs/grpo/seed-0\""), "{best}");
    check_banks(at);
}

/// What the runs ended with, with where it comes from.
fn check_banks(at: &Path) {
    let banks = |arm: &str| reskill(at, &["study", "banks", "s", "b", "--arm", arm]);
    let written = banks("lively");
    assert_eq!(written.status.code(), Some(0), "{}", said(&written));
    let valid = reskill(at, &["skills", "validate", "b/lively/seed-0"]);
    assert_eq!(valid.status.code(), Some(0), "{}", said(&valid));
    let given = std::fs::read_to_string(at.join("b/lively/seed-0/open-it/SKILL.md")).unwrap();
    assert!(given.contains("provenance:") && given.contains("seed 0: given at the start"), "{given}");
    let summary = std::fs::read(at.join("s/runs/lively/seed-0/summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&summary).unwrap();
    let names: Vec<&str> =
        summary["skills"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let found: Vec<String> = names
        .iter()
        .map(|name| std::fs::read_to_string(at.join("b/lively/seed-0").join(name).join("SKILL.md")).unwrap())
        .collect();
    assert!(found.len() > 1 && found.iter().any(|text| text.contains("accepted after step")), "{names:?}");
    let unknown = banks("lovely");
    assert!(unknown.status.code() == Some(2) && said(&unknown).contains("it has grpo, shuffled, lively"));
}

#[test]
fn an_interrupted_study_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let more = "\"grpo.steps=12\", \"checkpoint.every=1\", \"skills.mode=off\", ";
    let one = STUDY.split("[[arm]]").take(2).collect::<Vec<_>>().join("[[arm]]");
    std::fs::write(at.join("study.toml"), one.replace("\"grpo.steps=4\", ", more)).unwrap();
    let whole = reskill(at, &["study", "run", "study.toml", "--out", "whole"]);
    assert_eq!(whole.status.code(), Some(0), "{}", said(&whole));

    let mut command = Command::new(env!("CARGO_BIN_EXE_reskill-cli"));
    command.current_dir(at).args(["study", "run", "study.toml", "--out", "parts", "--parallel", "1"]);
    let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let steps = || {
        let text =
            std::fs::read_to_string(at.join("parts/runs/grpo/seed-0/metrics.jsonl")).unwrap_or_default();
        text.matches("\"kind\":\"step\"").count()
    };
    let start = std::time::Instant::now();
    while steps() < 2 {
        assert!(start.elapsed() < std::time::Duration::from_secs(120), "no second step after two minutes");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let stopped = child.wait_with_output().unwrap();
    assert_eq!(stopped.status.code(), Some(130), "{}", said(&stopped));
    assert!(said(&stopped).contains("stopped; the same command goes on"), "{}", said(&stopped));
    assert!(!at.join("parts/runs/grpo/seed-1/summary.json").exists(), "it did not stop");

    let again = reskill(at, &["study", "run", "study.toml", "--out", "parts"]);
    assert_eq!(again.status.code(), Some(0), "{}", said(&again));
    let table = |folder: &str| {
        let report = reskill(at, &["study", "report", folder]);
        let text = String::from_utf8(report.stdout).unwrap();
        // Seconds are the clock's.
        let lines = text.lines().filter(|line| line.starts_with("| grpo | 2 |")).map(str::to_string);
        lines.collect::<Vec<_>>()
    };
    assert!(table("whole").len() == 2 && table("whole") == table("parts"), "{:?}", table("parts"));
}

#[test]
fn what_does_not_fit_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let refused = |args: &[&str], expected: &str| {
        let output = reskill(at, args);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(expected), "`{expected}` is not in: {}", said(&output));
    };
    std::fs::write(at.join("typo.toml"), STUDY.replace("grpo.steps", "grpo.stepps")).unwrap();
    refused(&["study", "run", "typo.toml", "--out", "t"], "did you mean `steps`?");
    refused(&["study", "report", "nothing"], "holds no study.toml");
    std::fs::create_dir(at.join("full")).unwrap();
    std::fs::write(at.join("full/notes"), "").unwrap();
    std::fs::write(at.join("study.toml"), STUDY).unwrap();
    refused(&["study", "run", "study.toml", "--out", "full"], "is not empty and holds no study");

    // A run that was made with another configuration than the study has now.
    let made = at.join("s/runs/grpo/seed-0");
    std::fs::create_dir_all(&made).unwrap();
    std::fs::write(at.join("s/study.toml"), STUDY).unwrap();
    let shown = reskill(at, &["config", "show", "default"]);
    std::fs::write(made.join("config.toml"), shown.stdout).unwrap();
    refused(&["study", "run", "study.toml", "--out", "s"], "was made with another configuration");
}

#[test]
fn the_results_in_the_documentation_come_from_the_files_beside_them() {
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/results");
    let is_study = |path: &std::path::PathBuf| path.join("study.toml").is_file();
    let studies: Vec<_> =
        std::fs::read_dir(&results).unwrap().map(|entry| entry.unwrap().path()).filter(is_study).collect();
    assert!(!studies.is_empty());
    for study in studies {
        let dir = tempfile::tempdir().unwrap();
        let args = ["study", "report", study.to_str().unwrap(), "--out", dir.path().to_str().unwrap()];
        let output = reskill(&results, &args);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let table = std::fs::read(study.join("table.md")).unwrap();
        let remedy = "reskill-cli study report writes it anew";
        assert!(
            std::fs::read(dir.path().join("table.md")).unwrap() == table,
            "{}: {remedy}",
            study.display()
        );
    }
}
