//! Plays one ALFWorld game from Rust: a few commands by hand, then the expert from wherever they led.
//!
//! `cargo run --release -p reskill-envs --example alfworld -- DATA [ID]`
//!
//! DATA is what `alfworld-download` left, a pack, or one `game.tw-pddl`.
#![expect(clippy::print_stdout, reason = "an example that shows a game")]

use std::error::Error;
use std::path::Path;

use reskill_envs::alfworld::{Alfworld, AlfworldOptions};
use reskill_envs::{Split, Suite, Task};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let data = arguments.next().ok_or("expected a folder, a pack or a game.tw-pddl")?;
    let options = AlfworldOptions { splits: Split::ALL.to_vec(), ..AlfworldOptions::default() };
    let suite = Alfworld::open_path(Path::new(&data), &options)?;
    let wanted = arguments.next();
    let is_wanted = |task: &&Task| wanted.as_ref().is_none_or(|id| *id == task.id.0);
    let mut tasks = Split::ALL.iter().flat_map(|&split| suite.tasks(split)).map(AsRef::as_ref);
    let task = tasks.find(is_wanted).ok_or("no such game")?;
    println!("{}\nfamily {}, goal: {}\n", task.id, task.family, task.goal);

    let mut env = suite.open(&task.id)?;
    let mut now = env.reset()?;
    println!("{}", now.text);
    for _ in 0..2 {
        let Some(command) = now.admissible.first().cloned() else { break };
        now = env.step(&command)?.observation;
        println!("\n> {command}\n{}", now.text);
    }
    // A state is cheap to copy: both go on from here, apart.
    let mut other = env.boxed_clone()?;
    println!("\n[on a copy] > look\n{}", other.step("look")?.observation.text);
    for command in env.expert()? {
        let step = env.step(&command)?;
        println!("\n> {command}\n{}", step.observation.text);
        if step.won {
            println!("\nwon, score {}", step.score);
        }
    }
    Ok(())
}
