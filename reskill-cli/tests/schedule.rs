//! `schedule = skill_first | policy_first`: what is frozen stays as it is, to the bit.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Steps of a run; the halves are 1..=8 and 9..=16.
const STEPS: u64 = 16;
const HALF: u64 = STEPS / 2;

/// A run of seconds in which the policy wins some games, the creator proposes whatever it can, and a test takes two steps.
const SMALL: &[&str] = &[
    "env.household.n_train=40",
    "env.household.n_seen=4",
    "env.household.n_unseen=4",
    "env.household.closed_fraction=0.4",
    "env.household.idle_fraction=0.4",
    "policy.model.hidden_size=48",
    "policy.model.intermediate_size=48",
    "policy.model.num_hidden_layers=1",
    "policy.model.num_attention_heads=2",
    "policy.model.num_key_value_heads=1",
    "policy.model.head_dim=16",
    "sft.episodes=600",
    "sft.epochs=5",
    "rollout.tasks_per_step=8",
    "rollout.group_size=6",
    "grpo.steps=16",
    "skills.reservoir.min=4",
    "skills.version_test.rule=paper",
    "skills.version_test.min_episodes=8",
    "skills.version_test.min_steps=2",
    "skills.creator.offline.min_z=0.01",
    "skills.creator.offline.min_gain=0.0001",
    "skills.creator.offline.min_episodes=3",
    "skills.creator.offline.max_share=1.0",
    "skills.creator.offline.level=1.0",
    "skills.creator.offline.episode_causes=false",
    "skills.verify.min_rate=0.05",
    "skills.verify.min_overall=0.01",
    "eval.games=4",
    "eval.every=0",
    "checkpoint.every=1",
    "checkpoint.keep=100",
];

fn train(arguments: &[&str], more: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reskill-cli"));
    command.arg("train").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for assignment in more {
        command.args(["--set", assignment]);
    }
    command
}

fn small(out: &Path, schedule: &str) -> Command {
    let mut settings: Vec<String> = SMALL.iter().map(|text| (*text).to_string()).collect();
    settings.push(format!("schedule={schedule}"));
    train(&["--out", out.to_str().unwrap()], &settings)
}

fn finished(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
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
    assert!(String::from_utf8_lossy(&output.stderr).contains("policy frozen"));
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
    finished(train(&["--resume", parts.to_str().unwrap()], &[]));
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
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("`schedule` = skill_first") && message.contains("skills.mode"), "{message}");
    let output = small(&dir.path().join("run"), "skils_first").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("schedule"));
}
