//! Plays the simulator's own way to the goal of every `stride`-th variation of every task, and prints those that do not end
//! at the full score.
//!
//! `cargo run --release -p reskill-envs --features scienceworld --example scienceworld_gold -- scienceworld.jar [stride]`
#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::error::Error;
use std::path::Path;

use rayon::prelude::*;
use reskill_envs::scienceworld::{ScienceWorld, ScienceWorldOptions};
use reskill_envs::{EnvError, Split, Suite, TaskId};

/// Score at the end of the way.
fn score(suite: &ScienceWorld, id: &TaskId) -> Result<(f32, usize), EnvError> {
    let mut env = suite.open(id)?;
    env.reset()?;
    let plan = env.expert()?;
    let mut score = 0.0;
    for command in &plan {
        score = env.step(command)?.score;
    }
    Ok((score, plan.len()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let jar = arguments.next().ok_or("expected the path of scienceworld.jar")?;
    let stride = arguments.next().map_or(Ok(1), |stride| stride.parse())?;
    let options = ScienceWorldOptions { objects: false, jvms: 1, ..ScienceWorldOptions::all_tasks() };
    let suite = ScienceWorld::open_path(Path::new(&jar), &options)?;
    let ids: Vec<&TaskId> = Split::ALL
        .iter()
        .flat_map(|&split| suite.tasks(split))
        .map(|task| &task.id)
        .step_by(stride)
        .collect();
    let played: Vec<(f32, usize)> = ids.par_iter().map(|id| score(&suite, id)).collect::<Result<_, _>>()?;
    let short = ids.iter().zip(&played).filter(|(_, (score, _))| *score < 1.0);
    let n_short = short.inspect(|(id, (score, _))| println!("{id}: {:.0} of 100", 100.0 * score)).count();
    let n_steps: usize = played.iter().map(|(_, steps)| steps).sum();
    println!("{} variations, {n_steps} steps, {n_short} below the full score", ids.len());
    if n_short > 0 { Err("the way does not always lead there".into()) } else { Ok(()) }
}
