//! Plays one generated game by its expert and prints it.
//!
//! `cargo run --release -p reskill-envs --example play [index]`
#![expect(clippy::print_stdout, reason = "an example that shows a game")]

use reskill_envs::household::{Household, HouseholdConfig};
use reskill_envs::{EnvError, Split, Suite};

fn main() -> Result<(), EnvError> {
    let index = std::env::args().nth(1).and_then(|index| index.parse().ok()).unwrap_or(0);
    let suite = Household::generate(&HouseholdConfig::default())?;
    let Some(task) = suite.tasks(Split::Train).get(index) else { return Ok(()) };
    let mut env = suite.open(&task.id)?;
    let first = env.reset()?;
    println!("{} ({})\n\n{}", task.id, task.family, first.text);
    println!("\nadmissible: {}", first.admissible.join(", "));
    for command in env.expert()? {
        let step = env.step(&command)?;
        println!("\n> {command}\n{}", step.observation.text);
        if step.won {
            println!("\nwon");
        }
    }
    Ok(())
}
