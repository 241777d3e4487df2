//! Measures the engine on one core: listing, compiling, steps and plans.
//!
//! `cargo run --release -p reskill-envs --example steps_per_second [path to ALFWorld data]`
#![expect(clippy::print_stdout, reason = "an example that prints measurements")]

use std::path::Path;
use std::time::Instant;

use reskill_envs::alfworld::{Alfworld, AlfworldOptions};
use reskill_envs::household::{Household, HouseholdConfig};
use reskill_envs::{EnvError, Split, Suite};

const N_GAMES: usize = 300;
const TURNS: usize = 50;

fn main() -> Result<(), EnvError> {
    let start = Instant::now();
    let household = Household::generate(&HouseholdConfig::default())?;
    println!("household: generated in {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
    measure(&household)?;
    if let Some(path) = std::env::args().nth(1) {
        let start = Instant::now();
        let alfworld = Alfworld::open_path(Path::new(&path), &AlfworldOptions::default())?;
        println!("alfworld: listed in {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
        measure(&alfworld)?;
    }
    Ok(())
}

fn measure(suite: &dyn Suite) -> Result<(), EnvError> {
    let tasks = suite.tasks(Split::Train);
    let stride = (tasks.len() / N_GAMES).max(1);
    let start = Instant::now();
    let mut envs = Vec::new();
    for task in tasks.iter().step_by(stride) {
        envs.push(suite.open(&task.id)?);
    }
    let per_game = |seconds: f64| seconds * 1e3 / envs.len() as f64;
    println!("  {} games, {:.2} ms each to open", envs.len(), per_game(start.elapsed().as_secs_f64()));

    let start = Instant::now();
    let mut n_commands = 0;
    for env in &envs {
        n_commands += env.expert()?.len();
    }
    let seconds = per_game(start.elapsed().as_secs_f64());
    println!("  plans of {:.1} commands, {seconds:.2} ms each", n_commands as f64 / envs.len() as f64);

    let start = Instant::now();
    let mut n_steps = 0;
    for (index, env) in envs.iter_mut().enumerate() {
        let mut admissible = env.reset().admissible;
        for turn in 0..TURNS {
            // A fixed walk that looks random enough.
            let command = admissible[(index * 31 + turn * 17 + turn * turn * 7) % admissible.len()].clone();
            admissible = env.step(&command).observation.admissible;
            n_steps += 1;
        }
    }
    println!("  {:.0} steps/s", f64::from(n_steps) / start.elapsed().as_secs_f64());
    Ok(())
}
