//! `reskill-cli bench env --env scienceworld`: what the simulator costs through this program, beside the original Python
//! package (figures of 2 shared cores of an AMD EPYC, by processor time).

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use reskill_envs::scienceworld::{ScienceWorld, ScienceWorldOptions};
use reskill_envs::{Split, Suite, Task, TextEnv};

use super::report::Case;

/// What is measured: a name, and what observations hold beside the text.
const KINDS: [(&str, bool, bool); 3] =
    [("text and score", false, false), ("and objects", false, true), ("and valid actions", true, false)];

/// The Python package asks for everything at each step: 105 to 200 ms.
const PYTHON_STEP: (&str, f64) = ("Python package, all information", 150.0);
/// Start of its Java machine, seconds.
const PYTHON_START: (&str, f64) = ("Python package", 2.3);
/// Its Java machine with default memory.
const PYTHON_MEMORY: (&str, f64) = ("Python package", 860.0);

/// Plays the simulator's own way through `games` training tasks, `rounds` times.
pub(super) fn measure(data: &Path, games: usize, rounds: usize) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (name, valid_actions, objects) in KINDS {
        let options = ScienceWorldOptions { valid_actions, objects, ..ScienceWorldOptions::default() };
        let suite = ScienceWorld::open_path(data, &options)?;
        let tasks = suite.tasks(Split::Train);
        let tasks: Vec<&Task> = (0..games.min(tasks.len()))
            .map(|index| tasks[index * tasks.len() / games.min(tasks.len())].as_ref())
            .collect();
        let (mut starts, mut resets, mut steps) = (Vec::new(), Vec::new(), Vec::new());
        let mut envs: Vec<Box<dyn TextEnv>> = Vec::new();
        for task in tasks.iter().take(options.max_running()) {
            let mut env = suite.open(&task.id)?;
            let start = Instant::now();
            env.reset()?;
            starts.push(start.elapsed().as_secs_f64());
            envs.push(env);
        }
        let memory = resident_mib(&suite.process_ids());
        let n_running = envs.len() as f64;
        drop(envs);
        for _ in 0..rounds {
            for task in &tasks {
                play(&suite, task, &mut resets, &mut steps)?;
            }
        }
        if (valid_actions, objects) == (false, false) {
            let first =
                Case::new("scienceworld: first reset, Java machine started", "s", starts[..1].to_vec());
            cases.push(first.beside(PYTHON_START.0, PYTHON_START.1));
            cases.push(Case::new("scienceworld: reset", "ms", resets));
            cases.push(Case::new(
                format!("scienceworld: memory with {n_running} episodes"),
                "MiB",
                vec![memory],
            ));
            let each = Case::new("scienceworld: memory an episode", "MiB", vec![memory / n_running]);
            cases.push(each.beside(PYTHON_MEMORY.0, PYTHON_MEMORY.1));
        }
        let rates = steps.iter().map(|ms| 1e3 / ms).collect();
        let case = Case::new(format!("scienceworld: step, {name}"), "ms", steps);
        cases.push(if valid_actions { case.beside(PYTHON_STEP.0, PYTHON_STEP.1) } else { case });
        cases.push(Case::new(format!("scienceworld: steps, {name}, 1 episode"), "steps/s", rates));
    }
    Ok(cases)
}

/// One episode; milliseconds of its reset and, on average, of its steps.
fn play(suite: &ScienceWorld, task: &Task, resets: &mut Vec<f64>, steps: &mut Vec<f64>) -> Result<()> {
    let mut env = suite.open(&task.id)?;
    let start = Instant::now();
    env.reset()?;
    resets.push(start.elapsed().as_secs_f64() * 1e3);
    let plan = env.expert().with_context(|| task.id.to_string())?;
    if plan.is_empty() {
        return Ok(());
    }
    let start = Instant::now();
    for command in &plan {
        std::hint::black_box(&env.step(command)?.observation.text);
    }
    steps.push(start.elapsed().as_secs_f64() * 1e3 / plan.len() as f64);
    Ok(())
}

/// Resident memory of processes, 0 where the system does not tell.
fn resident_mib(ids: &[u32]) -> f64 {
    let of = |id: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().trim_end_matches("kB");
        line.trim().parse::<f64>().ok()
    };
    ids.iter().filter_map(of).sum::<f64>() / 1024.0
}
