//! `reskill-cli env list`: the games of an environment.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;
use reskill_envs::{Split, Task};

use super::games::{Source, all_tasks};
use crate::env_config::EnvName;
use crate::progress::print_data;
use crate::streams::{permutation, stream};
use crate::suites::open_suite;

/// Prints the games: id, family and goal
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  reskill-cli env list --env household --split unseen
  reskill-cli env list --env alfworld --data DIR --type pick_two_obj_and_place --order-seed 1 --json")]
pub(super) struct ListArgs {
    #[command(flatten)]
    source: Source,
    /// Only this split: train, seen, unseen or valid_train; may be given several times
    #[arg(long, value_name = "SPLIT")]
    split: Vec<String>,
    /// Only this task family, e.g. pick_and_place_simple; may be given several times
    #[arg(long = "type", value_name = "FAMILY")]
    families: Vec<String>,
    /// In an order drawn from this seed, instead of sorted by id
    #[arg(long, value_name = "N")]
    order_seed: Option<u64>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ListArgs) -> Result<u8> {
    let mut splits = Vec::new();
    for name in &args.split {
        let is_meant = |split: &Split| {
            let full = split.as_str();
            full == name || full.strip_prefix("valid_").is_some_and(|short| short == name)
        };
        match Split::ALL.into_iter().find(is_meant) {
            Some(split) => splits.push(split),
            None => bail!("--split {name}: expected train, seen, unseen or valid_train"),
        }
    }
    let mut config = args.source.config()?;
    config.alfworld.order_seed = args.order_seed;
    let suite = open_suite(&config)?;
    let known: std::collections::BTreeSet<&str> =
        all_tasks(suite.as_ref()).map(|task| task.family.as_str()).collect();
    if let Some(unknown) = args.families.iter().find(|family| !known.contains(family.as_str())) {
        let known: Vec<&str> = known.into_iter().collect();
        bail!("--type {unknown}: no game of this family; there are {}", known.join(", "));
    }
    let mut tasks: Vec<&Arc<Task>> = all_tasks(suite.as_ref()).collect();
    // ALFWorld's own option has put its games in order already.
    if let Some(seed) = args.order_seed.filter(|_| config.name != EnvName::Alfworld) {
        let order = permutation(tasks.len(), &mut stream(seed, "order of games", &[]));
        tasks = order.into_iter().map(|index| tasks[index]).collect();
    }
    let wanted = tasks.into_iter().filter(|task| {
        (splits.is_empty() || splits.contains(&task.split))
            && (args.families.is_empty() || args.families.contains(&task.family))
    });
    let mut lines = Vec::new();
    for task in wanted {
        if args.json {
            serde_json::to_writer(&mut lines, task.as_ref())?;
            writeln!(lines)?;
        } else {
            writeln!(lines, "{}  {}  {}", task.id, task.family, task.goal)?;
        }
    }
    print_data(&lines)?;
    Ok(0)
}
