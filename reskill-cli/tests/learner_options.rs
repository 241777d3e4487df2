//! The options of the learner as a person sets them, and the replay of a GRPO step.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::process::{Command, Stdio};

use serde_json::Value;

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reskill-cli"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A run of seconds with these settings on top.
fn small(out: &std::path::Path, more: &[&str]) -> Command {
    let mut command = command(&["train", "--out", out.to_str().unwrap()]);
    let sizes = [
        "env.household.n_train=30",
        "env.household.n_seen=6",
        "env.household.n_unseen=6",
        "policy.model.hidden_size=32",
        "policy.model.intermediate_size=48",
        "policy.model.num_hidden_layers=1",
        "policy.model.num_attention_heads=2",
        "policy.model.num_key_value_heads=1",
        "policy.model.head_dim=16",
        "sft.episodes=32",
        "sft.epochs=1",
        "rollout.tasks_per_step=3",
        "rollout.group_size=4",
        "grpo.steps=3",
        "grpo.learner.minibatch_turns=40",
        "skills.mode=off",
        "eval.games=4",
        "eval.every=0",
    ];
    for assignment in sizes.iter().chain(more) {
        command.args(["--set", assignment]);
    }
    command
}

#[test]
fn a_run_takes_every_option_of_advantage_loss_and_optimizer() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let options = [
        "grpo.advantage.baseline=leave_one_out",
        "grpo.advantage.std_norm=none",
        "grpo.advantage.step={weight=0.5, gamma=0.9}",
        "grpo.loss.surrogate=cispo",
        "grpo.loss.ratio=sequence",
        "grpo.loss.sequence=episode",
        "grpo.loss.kl=full",
        "grpo.loss.old_logprobs=recompute",
        "grpo.loss.importance_truncation=2.0",
        "grpo.loss.aggregation=seq-mean-token-mean",
        "grpo.loss.gradient_filter=1e-6",
        "grpo.optimizer.moments=8bit",
        "grpo.optimizer.warmup_steps=2",
        "grpo.optimizer.schedule={decay='cosine', decay_steps=6, final_fraction=0.1}",
    ];
    let output = small(&run, &options).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("memory: weights") && shown.contains("at once"), "{shown}");
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let steps: Vec<Value> = metrics
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|record| record["kind"] == "step")
        .collect();
    assert_eq!(steps.len(), 3);
    for step in &steps {
        let update = &step["update"];
        assert_eq!(update["skipped_updates"], 0);
        assert_eq!(update["sampler_mismatch"], 0.0);
        assert!(update["ratio"]["min"].as_f64().unwrap() <= update["ratio"]["max"].as_f64().unwrap());
    }
    let rate = |index: usize| steps[index]["update"]["learning_rate"].as_f64().unwrap();
    assert!(rate(2) < 3e-4, "the learning rate has not fallen: {}", rate(2));
    // The checkpoint holds the moments, and a finished run can be opened again.
    let resumed = command(&["train", "--resume", run.to_str().unwrap()]).output().unwrap();
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
}

#[test]
fn settings_that_contradict_each_other_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |more: &[&str], fragment: &str| {
        let output = small(&dir.path().join("run"), more).output().unwrap();
        let shown = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{shown}");
        assert!(shown.contains(fragment), "`{fragment}` is not in: {shown}");
    };
    refused(&["grpo.loss.importance_truncation=2.0"], "`loss.old_logprobs` = sampler, expected `recompute`");
    refused(&["grpo.loss.surrogate=clipp"], "did you mean `clip`?");
    refused(&["grpo.optimizer.schedule={decay='linear', decay_steps=0}"], "optimizer.schedule.decay_steps");
    refused(&["grpo.advantage.step={gamma=2.0}"], "advantage.step.gamma");
    refused(&["grpo.learner.max_tokens=100000000000"], "memory: training needs");
}

#[test]
fn the_replay_of_a_step_saves_tokens_from_variant_to_variant() {
    let output = command(&["bench", "grpo", "--quick", "--scale", "0.05"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = lines.iter().map(|line| line["variant"].as_str().unwrap()).collect();
    assert_eq!(names, ["R1", "R2", "R3", "R4", "R5"]);
    let tokens = |index: usize, key: &str| lines[index]["cost"][key].as_u64().unwrap();
    assert!(tokens(1, "prefilled") < tokens(0, "prefilled") && tokens(1, "reused") > 0);
    assert!(tokens(1, "recomputed") == tokens(1, "trained") && tokens(2, "recomputed") == 0);
    assert!(
        tokens(3, "prefilled") * 2 < tokens(2, "prefilled")
            && tokens(3, "encoded") * 2 < tokens(2, "encoded")
    );
    assert!(
        tokens(4, "trained") * 3 < tokens(3, "trained") * 2 && tokens(3, "trained") == tokens(0, "trained")
    );
    // What the policy says is the same in number, however it is computed.
    assert!((2..5).all(|index| tokens(index, "decoded") == tokens(1, "decoded")));
}
