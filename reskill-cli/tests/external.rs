//! Training on an environment of another program, and on one that keeps dying.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const SMALL: [&str; 8] = [
    "sft.episodes=8",
    "sft.epochs=1",
    "grpo.steps=2",
    "rollout.tasks_per_step=2",
    "rollout.group_size=4",
    "rollout.max_turns=6",
    "eval.games=3",
    "policy.model.hidden_size=16",
];

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../reskill-envs/examples/external_env.py")
}

fn train(command: &str, run: &Path, further: &[&str]) -> Output {
    let mut train = Command::new(env!("CARGO_BIN_EXE_reskill-cli"));
    train.args(["train", "--env-cmd", command, "--out"]).arg(run);
    for assignment in SMALL.iter().chain(further) {
        train.args(["--set", assignment]);
    }
    train.output().unwrap()
}

fn steps(output: &Output, run: &Path) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter(|record| record["kind"] == "step").collect()
}

#[test]
fn a_small_policy_trains_on_the_example_and_a_second_run_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let command = format!("python3 '{}'", example().display());
    let play = |name: &str| {
        let run = dir.path().join(name);
        let mut steps = steps(&train(&command, &run, &[]), &run);
        steps.iter_mut().for_each(|step| step["time"] = Value::Null);
        steps
    };
    let first = play("one");
    assert_eq!(first.len(), 2);
    assert!(first.iter().all(|step| step["episodes"] == 8 && step["faults"] == 0), "{first:?}");
    assert_eq!(play("two"), first);
}

/// The example, in processes that die when something is given that is not held, as only a policy does that has not
/// learned the task.
fn dying(dir: &Path) -> String {
    let script = dir.join("dying.py");
    let text = std::fs::read_to_string(example()).unwrap();
    let text = text.replace(
        "for line in sys.stdin:\n",
        "for line in sys.stdin:\n    \
         if json.loads(line).get(\"action\") == \"give\" and not state[\"held\"]: sys.exit(7)\n",
    );
    std::fs::write(&script, text).unwrap();
    format!("python3 '{}'", script.display())
}

#[test]
fn a_program_that_keeps_dying_costs_episodes_and_never_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let output = train(&dying(dir.path()), &run, &["env.external.processes=3", "grpo.steps=3"]);
    let steps = steps(&output, &run);
    assert_eq!(steps.len(), 3);
    let faults: u64 = steps.iter().map(|step| step["faults"].as_u64().unwrap()).sum();
    assert!(faults > 0, "{steps:?}");
    for step in &steps {
        assert_eq!(step["faults"].as_u64().unwrap() + step["episodes"].as_u64().unwrap(), 8);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the process ended (exit status: 7)"), "{said}");
}

#[test]
fn a_command_that_does_not_work_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (command, expected) in [
        ("no-such-program", "cannot be started"),
        ("echo 'one", "a quote is not closed"),
        ("", "the command is empty"),
        ("true", "lost during `hello`"),
    ] {
        let output = train(command, &dir.path().join("run"), &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{command}: {said}");
        assert!(said.lines().last().unwrap().starts_with("error: "), "{said}");
    }
}
