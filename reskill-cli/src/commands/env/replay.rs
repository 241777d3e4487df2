//! `reskill-cli env replay`: plays given actions and prints what the environment says, for other programs.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use reskill_envs::Observation;
use serde::Serialize;

use super::games::{Source, find};
use crate::progress::print_data;

/// Plays actions from a file and prints JSON lines
#[derive(Debug, Args)]
#[command(after_help = "Prints {\"obs\",\"admissible\"} for the start, then a line \
{\"action\",\"obs\",\"admissible\",\"score\",\"done\",\"won\"} for each action.

Examples:
  echo '[\"look\"]' | reskill-cli env replay --env household --game train/0 --actions -
  reskill-cli env replay --env alfworld --data game.tw-pddl --actions walkthrough.json")]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    source: Source,
    /// Id of the game, split/task/trial; not needed where there is one
    #[arg(long, value_name = "ID")]
    game: Option<String>,
    /// A JSON list of strings, or `-` for standard input
    #[arg(long, value_name = "FILE")]
    actions: PathBuf,
}

#[derive(Serialize)]
struct Start {
    obs: String,
    /// Null where the environment does not list commands.
    admissible: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Played<'a> {
    action: &'a str,
    obs: String,
    admissible: Option<Vec<String>>,
    /// Whole numbers are printed as such.
    score: serde_json::Number,
    done: bool,
    won: bool,
}

pub(super) fn run(args: &ReplayArgs) -> Result<u8> {
    let actions = read_actions(&args.actions)?;
    let suite = args.source.open()?;
    let mut env = suite.open(&find(suite.as_ref(), args.game.as_deref())?.id)?;
    let full_score = suite.full_score();
    let (obs, admissible) = seen(env.reset()?);
    let mut more = print_data(&line(&Start { obs, admissible })?)?;
    for action in &actions {
        if !more {
            break;
        }
        let step = env.step(action)?;
        let (obs, admissible) = seen(step.observation);
        let (score, done, won) = (number(scaled(step.score, full_score)), step.done, step.won);
        more = print_data(&line(&Played { action, obs, admissible, score, done, won })?)?;
    }
    Ok(0)
}

fn seen(observation: Observation) -> (String, Option<Vec<String>>) {
    let Observation { text, admissible, .. } = observation;
    (text, (!admissible.is_empty()).then_some(admissible))
}

fn read_actions(path: &std::path::Path) -> Result<Vec<String>> {
    let from_stdin = path.as_os_str() == "-";
    let name = if from_stdin { "standard input".into() } else { path.display().to_string() };
    let text = if from_stdin {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.with_context(|| format!("--actions {name}: cannot be read"))?;
    serde_json::from_str(&text).map_err(|error| {
        anyhow::anyhow!("--actions {name}: expected a JSON list of strings, as in [\"look\"]: {error}")
    })
}

fn line(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// A score as the benchmark counts it, in its shortest digits: 0.33, not the 0.33000001311302185 that is nearest to it in
/// 32 bits.
fn scaled(score: f32, full_score: f32) -> f64 {
    let exact = score.to_string().parse().unwrap_or_else(|_| f64::from(score));
    if full_score == 1.0 { exact } else { (exact * f64::from(full_score) * 1e6).round() / 1e6 }
}

fn number(score: f64) -> serde_json::Number {
    if score.fract() == 0.0 {
        return (score as i64).into();
    }
    serde_json::Number::from_f64(score).unwrap_or_else(|| 0.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_print_in_their_shortest_digits() {
        for percent in -100..=100_i16 {
            let printed = number(scaled(f32::from(percent) / 100.0, 100.0)).to_string();
            assert_eq!(printed, percent.to_string());
        }
        assert_eq!(number(scaled(0.33, 1.0)).to_string(), "0.33");
    }
}
