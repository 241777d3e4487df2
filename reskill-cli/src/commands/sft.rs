//! `reskill-cli sft`: the warm start of `train` by itself.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::train::{self, TrainArgs};
use crate::checkpoint::CheckpointChoice;
use crate::device::DeviceArgs;

/// Imitates expert episodes, and stops there: the first stage of `train`, with the same files.
#[derive(Debug, Args)]
#[command(
    after_help = "policy/ in the run directory holds the result: a folder that transformers loads, or with \
model.lora an adapter that PEFT loads beside the model it was trained on.

Examples:
  reskill-cli sft --config configs/smollm2-alfworld.toml --set env.data=DIR --set model.path=MODEL --steps 20
  reskill-cli sft --set model.path=MODEL --set model.lora.r=8 --merge --out runs/merged
  reskill-cli sft --resume runs/merged

Exit codes: 0 done, 2 an error, 130 interrupted by Ctrl-C after a checkpoint (go on with --resume)."
)]
pub struct SftArgs {
    /// Configuration file (TOML) of a training run; what comes after the warm start is left out
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Run directory, new or empty.
    #[arg(
        long,
        value_name = "DIR",
        help = "Run directory, new or empty [default: runs/<config>-<UTC time>]"
    )]
    out: Option<PathBuf>,
    /// Seed of every random choice; overrides the configuration
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Optimizer steps at most; as --set sft.steps=N
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Writes weights with the adapter added to them; as --set model.merge=true
    #[arg(long)]
    merge: bool,
    #[command(flatten)]
    device: DeviceArgs,
    /// Overrides one value of the configuration; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Goes on with an interrupted run, as its own config.toml says
    #[arg(long, value_name = "RUN", conflicts_with_all = ["config", "out", "seed", "steps", "merge", "overrides", "device", "precision", "gemm"])]
    resume: Option<PathBuf>,
    /// Checkpoint to go on from: latest, last-good (the newest that is whole), best, or a step
    #[arg(long, value_name = "CHECKPOINT", requires = "resume", default_value_t)]
    from: CheckpointChoice,
}

/// Runs the command; the result is the exit code.
///
/// # Errors
/// One line for the person who typed the command.
pub fn run(args: &SftArgs) -> Result<u8> {
    let mut overrides = args.overrides.clone();
    overrides.extend(args.steps.map(|steps| format!("sft.steps={steps}")));
    overrides.extend(args.merge.then(|| "model.merge=true".to_string()));
    // No step of GRPO, and nothing that would happen in one.
    overrides.extend(
        ["grpo.steps=0", "grpo.loss.kl_coef=0.0", "schedule=joint", "skills.mode=off"].map(String::from),
    );
    train::run(&TrainArgs {
        env_cmd: None,
        config: args.config.clone(),
        out: args.out.clone(),
        seed: args.seed,
        device: args.device.clone(),
        overrides,
        tui: false,
        resume: args.resume.clone(),
        from: args.from,
    })
}
