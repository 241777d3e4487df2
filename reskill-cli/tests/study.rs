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
"#;

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
    let run = || reskill(at, &["study", "run", "study.toml", "--out", "s"]);

    let first = run();
    assert_eq!(first.status.code(), Some(0), "{}", said(&first));
    assert!(said(&first).contains("3 runs of 2 arms, 0 finished before"), "{}", said(&first));
    assert_eq!(said(&first).lines().filter(|line| line.contains("unseen")).count(), 3);
    let summary = at.join("s/runs/grpo/seed-1/summary.json");
    let before = std::fs::read(&summary).unwrap();
    // One run is lost: it alone is run again, and comes out as before but for the clock.
    std::fs::remove_dir_all(at.join("s/runs/grpo/seed-0")).unwrap();
    let second = run();
    assert!(said(&second).contains("2 finished before"), "{}", said(&second));
    assert_eq!(std::fs::read(&summary).unwrap(), before);

    let report = reskill(at, &["study", "report", "s"]);
    assert_eq!(report.status.code(), Some(0), "{}", said(&report));
    let table = String::from_utf8(report.stdout).unwrap();
    assert!(table.contains("3 of 3 runs; the baseline is `grpo`"), "{table}");
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
