//! What several tests share: the program, and a run of seconds in which things happen.

use std::process::{Command, Output, Stdio};

/// Settings of a run of seconds in which the policy wins some games, the creator proposes whatever it can, and versions are
/// tested and decided on.
pub(crate) const LIVELY: &[&str] = &[
    "env.household.n_train=40",
    "env.household.n_seen=12",
    "env.household.n_unseen=12",
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
    "skills.reservoir.min=4",
    "skills.version_test.rule=paper",
    "skills.version_test.min_episodes=8",
    "skills.version_test.min_steps=2",
    "skills.creator.offline.min_z=0.01",
    "skills.creator.offline.min_gain=0.0001",
    "skills.creator.offline.min_episodes=3",
    "skills.creator.offline.max_share=1.0",
    "skills.verify.min_rate=0.05",
    "skills.verify.min_overall=0.01",
    "eval.games=12",
    "eval.every=0",
];

/// The program with these arguments, and `--set` for each of the assignments; what it prints is kept.
pub(crate) fn reskill(args: &[&str], assignments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reskill-cli"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for assignment in assignments {
        command.args(["--set", assignment]);
    }
    command
}

/// What it said on standard error.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs it to its end, which must be a good one.
pub(crate) fn finished(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    output
}
