//! `schedule = skill_first | policy_first`: what is frozen stays as it is, to the bit.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

mod common;

use common::{LIVELY, finished, reskill, said};

/// Steps of a run; the halves are 1..=8 and 9..=16.
const STEPS: u64 = 16;
const HALF: u64 = STEPS / 2;

/// What is added to [`LIVELY`]: every checkpoint is kept.
const MORE: &[&str] = &[
    "env.household.n_seen=4",
    "env.household.n_unseen=4",
    "grpo.steps=16",
    "skills.creator.offline.level=1.0",
    "skills.creator.offline.episode_causes=false",
    "eval.games=4",
    "checkpoint.every=1",
    "checkpoint.keep=100",
];

fn small(out: &Path, schedule: &str) -> Command {
    let schedule = format!("schedule={schedule}");
    reskill(&["train", "--out", out.to_str().unwrap()], &[LIVELY, MORE, &[schedule.as_str()]].concat())
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The records of training steps, without what depends on the clock.
fn steps(run: &Path) -> Vec<Value> {
    let mut records: Vec<Value> =
        lines(&run.join("metrics.jsonl")).into_iter().filter(|record| record["kind"] == "step").collect();
    for record in &mut records {
        record.as_object_mut().unwrap().remove("time");
    }
    records
}

/// The weights after a step; 0: after the warm start.
fn weights(run: &Path, step: u64) -> Vec<u8> {
    std::fs::read(run.join(format!("checkpoints/1-step-{step:06}/policy.safetensors"))).unwrap()
}

/// In which steps the weights changed, and in which a version was under test or the history grew.
fn check_halves(run: &Path, policy_learns: impl Fn(u64) -> bool) {
    for step in 1..=STEPS {
        let changed = weights(run, step) != weights(run, step - 1);
        assert_eq!(changed, policy_learns(step), "weights in step {step}");
    }
    let records = steps(run);
    assert_eq!(records.len() as u64, STEPS);
    let mut bank = Value::Array(Vec::new());
    let mut tested = 0;
    for (step, record) in (1..).zip(&records) {
        let has_update = record["update"].get("loss").is_some();
        assert_eq!(has_update, policy_learns(step), "update in step {step}");
        if policy_learns(step) {
            assert_eq!(record["bank"], bank, "the bank in step {step}");
            assert!(record["posterior"].is_null() && record["decision"].is_null(), "a test in step {step}");
        }
        tested += u64::from(!record["posterior"].is_null() || !record["decision"].is_null());
        bank = record["bank"].clone();
    }
    assert!(tested > 0, "no version was tested in the bank's half");
    let history = lines(&run.join("history.jsonl"));
    assert!(!history.is_empty());
    for record in history {
        let step = record["step"].as_u64().unwrap();
        assert!(!policy_learns(step), "history in step {step}: {record}");
    }
}

#[test]
fn skill_first_freezes_the_policy_and_then_the_bank() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let output = finished(small(&run, "skill_first"));
    check_halves(&run, |step| step > HALF);
    assert!(said(&output).contains("policy frozen"));
    assert!(run.join("report.html").exists() && run.join("summary.json").exists());
}

#[test]
fn policy_first_freezes_the_bank_and_then_the_policy() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    finished(small(&run, "policy_first"));
    check_halves(&run, |step| step <= HALF);
}

#[test]
fn a_resumed_run_changes_halves_where_the_whole_run_does() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    finished(small(&whole, "skill_first"));
    let mut child = small(&parts, "skill_first").spawn().unwrap();
    let start = Instant::now();
    // Interrupted before the change, in the middle of the frozen half.
    while std::fs::read_to_string(parts.join("metrics.jsonl"))
        .unwrap_or_default()
        .lines()
        .filter(|line| line.contains("\"kind\":\"step\""))
        .count()
        < 3
    {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be interrupted");
        assert!(start.elapsed() < Duration::from_secs(120), "no third step after two minutes");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    finished(reskill(&["train", "--resume", parts.to_str().unwrap()], &[]));
    assert_eq!(steps(&whole), steps(&parts));
    assert!(weights(&whole, STEPS) == weights(&parts, STEPS), "the weights differ");
    let history = |run: &Path| std::fs::read_to_string(run.join("history.jsonl")).unwrap();
    assert_eq!(history(&whole), history(&parts));
}

#[test]
fn a_schedule_needs_a_bank_that_evolves() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = small(&dir.path().join("run"), "skill_first");
    let output = command.args(["--set", "skills.mode=off"]).output().unwrap();
    let message = said(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("`schedule` = skill_first") && message.contains("skills.mode"), "{message}");
    let output = small(&dir.path().join("run"), "skils_first").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("schedule"));
}
