//! `skills audit`: what the skills of a run are worth.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;

use super::source::{bank, print, print_json};
use crate::audit::{AuditSettings, SplitAudit, audit, render};
use crate::checkpoint::CheckpointChoice;
use crate::commands::eval::SplitChoice;
use crate::device::DeviceArgs;
use crate::trainer::{HowToPlay, Trained};

/// Plays fixed games with the whole bank, with none, and with each skill left out and alone
#[derive(Debug, Args)]
#[command(after_help = "Questions and where the answer stands:
  are the skills worth anything?      all minus none; what a skill adds to the others, and alone
  does the policy heed them?          heeded, beside unprompted: the same action in the same situation with no skills at all
  are useless skills kept?            a skill that adds nothing either way; with --versions, an accepted version without gain
  are useful ones thrown away?        with --versions, a rejected version with a gain
  is there room for better ones?      --reference BANK minus all; games won with at least one bank
Every bank plays the same games with the same draws. Versions are played by the policy of the checkpoint, which is a later one than
the policy that tested them: what it has learned itself in the meantime, a version can no longer add. Nothing corrects p-values for
the number of rows.

Examples:
  reskill-cli skills audit runs/one
  reskill-cli skills audit runs/one --versions --seeds 4
  reskill-cli skills audit runs/one --reference configs/banks/household --split seen --split unseen --json")]
pub(super) struct AuditArgs {
    /// Run directory
    run: PathBuf,
    /// Checkpoint whose policy and bank are audited: latest, last-good, best, or a step
    #[arg(long, value_name = "CHECKPOINT", default_value_t)]
    from: CheckpointChoice,
    /// Splits to play; may be given several times
    #[arg(long, value_enum, default_values = ["unseen"])]
    split: Vec<SplitChoice>,
    /// Games of each split [default: eval.games of the run]
    #[arg(long, value_name = "N")]
    games: Option<usize>,
    /// How often each game is played: with the run's seed and those that follow it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Plays the banks before and after every tested version as well
    #[arg(long)]
    versions: bool,
    /// A folder of Agent Skills to compare with, such as a bank written by hand
    #[arg(long, value_name = "BANK")]
    reference: Option<PathBuf>,
    /// Sampling temperature [default: eval.temperature of the run]
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Episodes side by side; changes no result
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096))]
    slots: Option<u64>,
    /// Replaces one value of env, eval or rollout in the run's configuration; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Prints the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What is printed with `--json`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    run: &'a PathBuf,
    checkpoint: String,
    temperature: f32,
    seeds: &'a [u64],
    splits: &'a [SplitAudit],
}

pub(super) fn run(args: &AuditArgs) -> Result<u8> {
    let slots = args.slots.map(|slots| slots as usize);
    let trained = Trained::open(&args.run, args.from, &args.overrides, &args.device, slots)?;
    let how = HowToPlay::of(&trained, args.games, args.temperature, args.seeds, slots)?;
    if trained.bank.n_active() == 0 && !args.versions && args.reference.is_none() {
        bail!(
            "{}: its bank holds no skill at this checkpoint; --versions plays the banks that were tested, --reference BANK another one",
            args.run.display()
        );
    }
    let reference = match &args.reference {
        None => None,
        Some(path) => Some((path.display().to_string(), bank(path).context("--reference")?)),
    };
    let settings = AuditSettings { how, versions: args.versions, reference };
    let splits = args
        .split
        .iter()
        .map(|choice| audit(&trained, choice.split(), &settings))
        .collect::<Result<Vec<_>>>()?;
    if args.json {
        let (run, checkpoint) = (&args.run, args.from.to_string());
        let HowToPlay { temperature, seeds, .. } = &settings.how;
        print_json(&Report { run, checkpoint, temperature: *temperature, seeds, splits: &splits })?;
        return Ok(0);
    }
    let texts: Vec<String> = splits.iter().map(render).collect();
    print(&texts.join("\n"))?;
    Ok(0)
}
