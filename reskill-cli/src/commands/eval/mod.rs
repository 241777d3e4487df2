//! `reskill-cli eval`: a trained run on fixed games, with intervals and paired comparisons.

mod contestant;
mod measure;
mod table;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use reskill_envs::Split;
use serde::Serialize;

use self::contestant::Contestant;
use self::measure::{Comparison, Measured};
use super::skills::print_json;
use crate::checkpoint::CheckpointChoice;
use crate::device::DeviceArgs;
use crate::progress::print_data;
use crate::trainer::{HowToPlay, Trained};

/// Plays a trained run on fixed games: success by task family, with intervals, and compares it on the same games with its
/// bank taken away, or with another run
#[derive(Debug, Args)]
#[command(
    after_help = "The games of a split are always the same, and the draws of an episode depend on seed and game alone: the
numbers do not depend on --slots or on what else is played. (On a CUDA device sums round by the number of episodes side by
side, so a draw that lies on an edge may fall on its other side.) Intervals are bootstraps over games (a game counts once
however many seeds it is played with); p-values are sign-flip tests on the differences of the games.

Examples:
  reskill-cli eval runs/one                                seen and unseen games, with the bank and without
  reskill-cli eval runs/one --split unseen --seeds 4       each game four times
  reskill-cli eval runs/one --from best                    the checkpoint with the best validation success
  reskill-cli eval runs/one --greedy --bank off
  reskill-cli eval runs/one --bank skills/                 another bank: a folder of Agent Skills
  reskill-cli eval runs/one --against runs/two --json
  reskill-cli eval runs/one --episodes one.jsonl           every episode, turn by turn
  reskill-cli eval runs/two --against one.jsonl            compared with episodes played before
  reskill-cli eval runs/one --device cuda                  on a CUDA device, wherever it was trained

Exit codes: 0 done, 2 an error: one line says what and what to do."
)]
pub struct EvalArgs {
    /// Run directory
    run: PathBuf,
    /// Checkpoint to play: latest, last-good (the newest that is whole), best (by validation success), or a step
    #[arg(long, value_name = "CHECKPOINT", default_value_t)]
    from: CheckpointChoice,
    /// Splits to play; may be given several times
    #[arg(long, value_enum, default_values = ["seen", "unseen"])]
    split: Vec<SplitChoice>,
    /// Games of each split [default: eval.games of the run]
    #[arg(long, value_name = "N")]
    games: Option<usize>,
    /// How often each game is played: with the run's seed and those that follow it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Sampling temperature [default: eval.temperature of the run]
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Takes the likeliest token; as --temperature 0
    #[arg(long, conflicts_with = "temperature")]
    greedy: bool,
    /// Which bank plays: `live`, `off`, `both`, or a folder of Agent Skills [default: both, or off if there is no skill]
    #[arg(long, value_name = "BANK")]
    bank: Option<String>,
    /// A run, or episodes that --episodes wrote, to be compared on the same games and seeds
    #[arg(long, value_name = "RUN|FILE")]
    against: Option<PathBuf>,
    /// Writes every episode as a line of JSON
    #[arg(long, value_name = "FILE")]
    episodes: Option<PathBuf>,
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

/// The parts of a benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum SplitChoice {
    /// Training games
    Train,
    /// Held-out games like the training games
    #[value(alias = "valid_seen")]
    Seen,
    /// Held-out games in places never trained on
    #[value(alias = "valid_unseen")]
    Unseen,
    /// Further held-out games of the training houses (ALFWorld)
    #[value(alias = "valid_train")]
    ValidTrain,
}

impl SplitChoice {
    pub(super) fn split(self) -> Split {
        match self {
            SplitChoice::Train => Split::Train,
            SplitChoice::Seen => Split::ValidSeen,
            SplitChoice::Unseen => Split::ValidUnseen,
            SplitChoice::ValidTrain => Split::ValidTrain,
        }
    }
}

/// What is printed with `--json`.
#[derive(Debug, Serialize)]
struct Report {
    run: PathBuf,
    temperature: f32,
    seeds: Vec<u64>,
    splits: Vec<SplitReport>,
}

/// One split: each contestant's numbers, and how far the first is ahead of the others.
#[derive(Debug, Serialize)]
struct SplitReport {
    split: Split,
    played: Vec<Measured>,
    comparisons: Vec<Comparison>,
}

/// Runs the command; the result is the exit code.
///
/// # Errors
/// One line for the person who typed the command.
pub fn run(args: &EvalArgs) -> Result<u8> {
    let slots = args.slots.map(|slots| slots as usize);
    let trained = Trained::open(&args.run, args.from, &args.overrides, &args.device, slots)?;
    let temperature = if args.greedy { Some(0.0) } else { args.temperature };
    let how = HowToPlay::of(&trained, args.games, temperature, args.seeds, slots)?;
    let mut contestants = Contestant::of_run(trained, args.bank.as_deref())?;
    if let Some(other) = &args.against {
        contestants.push(Contestant::against(other, &args.overrides, &args.device, slots)?);
    }
    let mut record = args.episodes.as_deref().map(contestant::Recorder::create).transpose()?;
    let mut splits = Vec::new();
    for split in args.split.iter().map(|choice| choice.split()) {
        let outcomes = contestants
            .iter_mut()
            .map(|one| one.play(split, &how, record.as_mut()))
            .collect::<Result<Vec<_>>>()?;
        let played = outcomes.iter().map(Measured::of).collect();
        let (first, others) =
            outcomes.split_first().map_or((None, &[][..]), |(first, rest)| (Some(first), rest));
        let comparisons =
            first.iter().flat_map(|first| others.iter().map(|other| Comparison::of(first, other))).collect();
        splits.push(SplitReport { split, played, comparisons });
    }
    if let Some(record) = record {
        record.finish()?;
    }
    let report = Report { run: args.run.clone(), temperature: how.temperature, seeds: how.seeds, splits };
    if args.json {
        print_json(&report)?;
    } else {
        print_data(table::render(&report).as_bytes())?;
    }
    Ok(0)
}
