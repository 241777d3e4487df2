//! Asks the simulator for all its tasks with their goals and prints a JSON line for each: how the table in
//! `src/scienceworld` was made. It takes some 20 minutes.
//!
//! `cargo run --release -p reskill-envs --features scienceworld --example scienceworld_tasks -- scienceworld.jar |
//! zstd -19 > reskill-envs/src/scienceworld/tasks.jsonl.zst`
#![expect(clippy::print_stdout, reason = "the lines are the result")]

use std::error::Error;
use std::path::Path;

use reskill_envs::scienceworld::{ScienceWorldOptions, Survey};

fn main() -> Result<(), Box<dyn Error>> {
    let jar = std::env::args().nth(1).ok_or("expected the path of scienceworld.jar")?;
    let mut survey = Survey::start(Path::new(&jar), &ScienceWorldOptions::default())?;
    for name in survey.names()? {
        println!("{}", serde_json::to_string(&survey.family(&name, 1)?)?);
    }
    Ok(())
}
