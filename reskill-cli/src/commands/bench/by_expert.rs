//! `reskill-cli bench env --env NAME`: any environment, its tasks played by its expert.
//!
//! An episode is opened, reset and played to its end. A step is one command of the expert with all that an agent is shown.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use reskill_envs::{EnvError, Split, Suite, Task};

use super::env::{EnvBenchArgs, resident_mib, spread, thread_cpu_seconds};
use super::report::Case;
use crate::env_config::{EnvConfig, EnvName};
use crate::suites::open_suite;

/// What a thread did, and the processor seconds of its steps, where the system tells.
#[derive(Debug, Default)]
struct Played {
    steps: usize,
    won: usize,
    cpu: Option<f64>,
}

/// Loading, resets and steps of an environment.
pub(super) fn measure(name: EnvName, args: &EnvBenchArgs) -> Result<Vec<Case>> {
    name.check_data("--data", args.data.is_some())?;
    let config = EnvConfig { name, data: args.data.clone(), ..EnvConfig::default() };
    config.validate()?;
    let start = Instant::now();
    let suite = open_suite(&config)?;
    let loaded = start.elapsed().as_secs_f64();
    let all: Vec<Arc<Task>> = Split::ALL.iter().flat_map(|&split| suite.tasks(split)).cloned().collect();
    let tasks = spread(&all, args.games);
    // The first opening of a task may work something out that is kept; it is no part of what is measured.
    let plans: Vec<Vec<String>> =
        tasks.iter().map(|task| plan(suite.as_ref(), task)).collect::<Result<_>>()?;
    let label = suite.name().to_owned();
    let case = |what: &str, unit, rounds| Case::new(format!("{label}: {what}"), unit, rounds);
    let mut cases = vec![
        case(&format!("load {} tasks", all.len()), "s", vec![loaded]),
        case("resident", "MiB", vec![resident_mib()]),
    ];
    let mut resets = Vec::with_capacity(args.rounds);
    for _ in 0..args.rounds {
        let start = Instant::now();
        for task in &tasks {
            std::hint::black_box(suite.open(&task.id)?.reset()?);
        }
        resets.push(start.elapsed().as_secs_f64() * 1e3 / tasks.len() as f64);
    }
    cases.push(case("open and reset", "ms", resets));
    let work: Vec<(Arc<Task>, Vec<String>)> = tasks.into_iter().zip(plans).collect();
    for threads in [1, 2] {
        let (mut by_clock, mut by_cpu) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            let start = Instant::now();
            let played = side_by_side(suite.as_ref(), &work, threads)?;
            by_clock.push(played.steps as f64 / start.elapsed().as_secs_f64());
            // A short round may take no tick of the system's clock.
            by_cpu.extend(played.cpu.filter(|&cpu| cpu > 0.0).map(|cpu| played.steps as f64 / cpu));
            if played.won < work.iter().filter(|(_, plan)| !plan.is_empty()).count() {
                bail!("{label}: the expert has won {} of {} tasks", played.won, work.len());
            }
        }
        cases.push(case(&format!("steps, {threads} thread(s)"), "steps/s", by_clock));
        if threads == 1 && !by_cpu.is_empty() {
            cases.push(case("steps, by processor time", "steps/CPU-s", by_cpu));
        }
    }
    Ok(cases)
}

/// What the expert plays; nothing where it knows no way.
fn plan(suite: &dyn Suite, task: &Task) -> Result<Vec<String>> {
    let mut env = suite.open(&task.id)?;
    env.reset()?;
    match env.expert() {
        Err(EnvError::NoPlan { .. }) => Ok(Vec::new()),
        plan => plan.with_context(|| format!("expert of {}", task.id)),
    }
}

fn side_by_side(suite: &dyn Suite, work: &[(Arc<Task>, Vec<String>)], threads: usize) -> Result<Played> {
    let shares = work.chunks(work.len().div_ceil(threads).max(1));
    let played: Vec<Result<Played>> = std::thread::scope(|scope| {
        let threads: Vec<_> = shares.map(|share| scope.spawn(move || play(suite, share))).collect();
        // Playing does not panic.
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let mut total = Played { cpu: Some(0.0), ..Played::default() };
    for played in played {
        let Played { steps, won, cpu } = played?;
        total.steps += steps;
        total.won += won;
        total.cpu = total.cpu.zip(cpu).map(|(one, other)| one + other);
    }
    Ok(total)
}

fn play(suite: &dyn Suite, share: &[(Arc<Task>, Vec<String>)]) -> Result<Played> {
    let before = thread_cpu_seconds();
    let mut played = Played::default();
    for (task, plan) in share {
        let mut env = suite.open(&task.id)?;
        env.reset()?;
        for command in plan {
            let step = env.step(command)?;
            played.steps += 1;
            played.won += usize::from(step.won && step.done);
        }
    }
    played.cpu = before.zip(thread_cpu_seconds()).map(|(before, after)| after - before);
    Ok(played)
}
