//! `reskill-cli bench env`: how fast the native environments are, and what they take.
//!
//! A step is a command with its text and the whole sorted list of admissible commands, as an agent gets it. Commands
//! are drawn at random from that list.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use rand::RngExt;
use rayon::prelude::*;
use reskill_envs::alfworld::{Alfworld, AlfworldOptions, Game, GameEnv, RulesCache};
use reskill_envs::household::{Household, HouseholdConfig};
use reskill_envs::{Split, Suite, TaskId};

use super::report::{Case, print};
use super::{by_expert, retrieval};
use crate::env_config::EnvName;
use crate::streams::stream;

/// Steps a CPU-second of the original engine (textworld 1.7.0, alfworld 0.4.2: 8 to 11).
const ORIGINAL: (&str, f64) = ("original engine", 9.5);

/// Steps, resets, loading and memory of the native environments
#[derive(Debug, Args)]
#[command(
    after_help = "Without --data only generated games are measured. Times are those of the clock: run it on a quiet machine.

Examples:
  reskill-cli bench env --data DIR
  reskill-cli bench env --env wands --games 50 --json"
)]
pub(super) struct EnvBenchArgs {
    /// Another environment than ALFWorld and the household: its tasks are played by its expert
    #[arg(long, value_enum)]
    env: Option<EnvName>,
    /// ALFWorld: a download tree or a pack; with --env what that environment reads
    #[arg(long, value_name = "PATH")]
    pub(super) data: Option<PathBuf>,
    /// Games that are stepped through
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(super) games: usize,
    /// Commands in each
    #[arg(long, value_name = "N", default_value_t = 50)]
    turns: usize,
    /// Times that each measurement is repeated
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(super) rounds: usize,
    /// Seed of the commands
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &EnvBenchArgs) -> Result<u8> {
    for (name, value) in [("--games", args.games), ("--turns", args.turns), ("--rounds", args.rounds)] {
        if value == 0 {
            bail!("{name} 0: expected at least 1");
        }
    }
    if args.env == Some(EnvName::Scienceworld) {
        let data = args.data.as_deref().context("--data is missing: give scienceworld.jar or its folder")?;
        print(&super::scienceworld::measure(data, args.games, args.rounds)?, args.seed, args.json)?;
        return Ok(0);
    }
    if let Some(env) = args.env.filter(|env| !matches!(env, EnvName::Household | EnvName::Alfworld)) {
        let mut cases = by_expert::measure(env, args)?;
        if env == EnvName::Search {
            cases.extend(retrieval::measure(args)?);
        }
        print(&cases, args.seed, args.json)?;
        return Ok(0);
    }
    let mut cases = Vec::new();
    if let Some(path) = &args.data {
        // First, so that the memory is that of these games alone.
        let options = AlfworldOptions { splits: Split::ALL.to_vec(), ..AlfworldOptions::default() };
        let (start, cpu) = (Instant::now(), process_cpu_seconds());
        let suite = Alfworld::open_path(path, &options)?;
        let listed = start.elapsed().as_secs_f64();
        let tasks: Vec<TaskId> =
            Split::ALL.iter().flat_map(|&split| suite.tasks(split)).map(|task| task.id.clone()).collect();
        let games: Vec<Arc<Game>> = tasks.par_iter().map(|id| suite.game(id)).collect::<Result<_, _>>()?;
        let loaded = start.elapsed().as_secs_f64();
        let all = |what: &str| format!("alfworld: {what} {} games", games.len());
        cases.push(Case::new(all("list"), "s", vec![listed]));
        cases.push(Case::new(all("list, parse and hold"), "s", vec![loaded]));
        if let (Some(before), Some(after)) = (cpu, process_cpu_seconds()) {
            cases.push(Case::new(all("list, parse and hold"), "CPU-s", vec![after - before]));
        }
        cases.push(Case::new(all("resident with"), "MiB", vec![resident_mib()]));
        let chosen: Vec<Arc<Game>> = spread(&games, args.games);
        measure("alfworld", &chosen, args, &mut cases);
        let reworded = reworded(&suite, &spread(&tasks, args.games))?;
        cases.extend(steps("alfworld, another grammar", &reworded, args, 1));
    }
    let household =
        Household::generate(&HouseholdConfig { n_train: args.games, ..HouseholdConfig::default() })?;
    let ids = household.tasks(Split::Train).iter().map(|task| &task.id);
    let games: Vec<Arc<Game>> = ids.map(|id| household.game(id)).collect::<Result<_, _>>()?;
    measure("household", &games, args, &mut cases);
    print(&cases, args.seed, args.json)?;
    Ok(0)
}

fn measure(name: &str, games: &[Arc<Game>], args: &EnvBenchArgs, cases: &mut Vec<Case>) {
    cases.push(resets(name, games, args));
    for threads in [1, 2] {
        cases.extend(steps(name, games, args, threads));
    }
}

/// Every `n`-th of the items, so that about `count` are left.
pub(super) fn spread<T: Clone>(items: &[T], count: usize) -> Vec<T> {
    (0..count.min(items.len()))
        .map(|index| items[index * items.len() / count.min(items.len())].clone())
        .collect()
}

/// Milliseconds that a reset takes, its text and its commands included.
fn resets(name: &str, games: &[Arc<Game>], args: &EnvBenchArgs) -> Case {
    let mut envs = environments(games);
    let rounds = (0..args.rounds).map(|_| {
        let start = Instant::now();
        let mut bytes = 0;
        for env in &mut envs {
            bytes += env.reset().text.len();
        }
        std::hint::black_box(bytes);
        start.elapsed().as_secs_f64() * 1e3 / games.len() as f64
    });
    Case::new(format!("{name}: reset of a parsed game"), "ms", rounds.collect())
}

/// Steps a second, all threads together, by the clock and, on one thread, by processor time.
fn steps(name: &str, games: &[Arc<Game>], args: &EnvBenchArgs, threads: usize) -> Vec<Case> {
    let (mut by_clock, mut by_cpu) = (Vec::new(), Vec::new());
    for round in 0..args.rounds as u64 {
        let start = Instant::now();
        let cpu: Option<f64> = std::thread::scope(|scope| {
            let shares = games.chunks(games.len().div_ceil(threads)).zip(0..);
            let walks: Vec<_> = shares
                .map(|(share, index)| scope.spawn(move || walk(share, args, &[round, index])))
                .collect();
            // A walk does not panic.
            walks.into_iter().map(|walk| walk.join().ok().flatten()).sum()
        });
        let n_steps = (games.len() * args.turns) as f64;
        by_clock.push(n_steps / start.elapsed().as_secs_f64());
        // The system counts in ticks of some milliseconds: a short round may take none.
        by_cpu.extend(cpu.filter(|&seconds| seconds > 0.0).map(|seconds| n_steps / seconds));
    }
    let mut cases = vec![Case::new(format!("{name}: steps, {threads} thread(s)"), "steps/s", by_clock)];
    if threads == 1 && !by_cpu.is_empty() {
        let case = Case::new(format!("{name}: steps, by processor time"), "steps/CPU-s", by_cpu);
        cases.push(if name.starts_with("alfworld") { case.beside(ORIGINAL.0, ORIGINAL.1) } else { case });
    }
    cases
}

/// Plays random admissible commands in each game; the processor seconds that took, where the system tells.
fn walk(games: &[Arc<Game>], args: &EnvBenchArgs, index: &[u64]) -> Option<f64> {
    let before = thread_cpu_seconds();
    let mut rng = stream(args.seed, "bench env", index);
    for env in &mut environments(games) {
        let mut admissible = env.reset().admissible;
        for _ in 0..args.turns {
            // The look command is always there, in ALFWorld as in the household.
            let command = rng.random_range(0..admissible.len().max(1));
            let step = env.step(admissible.get(command).map_or("look", String::as_str));
            std::hint::black_box(&step.observation.text);
            admissible = step.observation.admissible;
        }
    }
    Some(thread_cpu_seconds()? - before?)
}

fn environments(games: &[Arc<Game>]) -> Vec<GameEnv> {
    games.iter().map(|game| GameEnv::new(Arc::clone(game), TaskId("bench/env/0".into()))).collect()
}

/// The same games with other words.
fn reworded(suite: &Alfworld, ids: &[TaskId]) -> Result<Vec<Arc<Game>>> {
    let rules = RulesCache::default();
    let mut games = Vec::with_capacity(ids.len());
    for id in ids {
        let mut file = suite.game_file(id)?;
        for (from, to) in
            [("You arrive at", "Now you stand before"), ("In it, you see", "Inside:"), ("go to", "walk to")]
        {
            file.grammar = file.grammar.replace(from, to);
        }
        games.push(Arc::new(Game::compile(&file, &rules).with_context(|| format!("{id} with other words"))?));
    }
    Ok(games)
}

/// Memory of this process that is resident now; 0 where the system does not tell.
pub(super) fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// Processor time of this thread so far.
pub(super) fn thread_cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(stat.split(' ').next()?.parse::<f64>().ok()? * 1e-9)
}

/// Processor time of this process so far: its user and system ticks, a hundred a second.
fn process_cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().ok());
    Some(ticks.sum::<Option<f64>>()? / 100.0)
}
