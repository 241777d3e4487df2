//! Replays recorded episodes and compares every text, list and number with the record.
//!
//! `cargo run --release -p reskill-envs --example check_transcripts -- DATA TRANSCRIPTS.jsonl`
//!
//! DATA is a tree or a pack of games; the transcripts are those of `tests/it/golden/make_transcripts.py`.
#![expect(clippy::print_stdout, reason = "an example that prints what it found")]

use std::error::Error;
use std::path::Path;

use reskill_envs::alfworld::{Alfworld, AlfworldOptions};
use reskill_envs::{Observation, Split, Suite, TaskId};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(data), Some(transcripts)) = (arguments.next(), arguments.next()) else {
        return Err("expected DATA and TRANSCRIPTS.jsonl".into());
    };
    let options = AlfworldOptions { splits: Split::ALL.to_vec(), ..AlfworldOptions::default() };
    let suite = Alfworld::open_path(Path::new(&data), &options)?;
    let (mut n_episodes, mut n_steps, mut n_different) = (0, 0, 0);
    for line in std::fs::read_to_string(transcripts)?.lines() {
        // The last line of a record that is still being written.
        let Ok(recorded) = serde_json::from_str::<Value>(line) else { break };
        let id = recorded["id"].as_str().unwrap_or_default();
        let mut env = suite.open(&TaskId(id.to_owned()))?;
        let seen = |Observation { text, admissible, .. }| json!({"obs": text, "admissible": admissible});
        let first = seen(env.reset()?);
        let mut equal = first == recorded["reset"];
        if !equal {
            println!("{id} {} reset\n  expected {}\n  got      {first}", recorded["kind"], recorded["reset"]);
        }
        for (turn, expected) in recorded["steps"].as_array().into_iter().flatten().enumerate() {
            n_steps += 1;
            let action = expected["action"].as_str().unwrap_or_default();
            let step = env.step(action)?;
            let mut ours = seen(step.observation);
            let score = if step.score == 1.0 { 1 } else { 0 };
            let rest = [("action", json!(action)), ("score", json!(score)), ("done", json!(step.done))];
            for (key, value) in rest.into_iter().chain([("won", json!(step.won))]) {
                ours[key] = value;
            }
            if equal && ours != *expected {
                equal = false;
                println!("{id} {} turn {turn}\n  expected {expected}\n  got      {ours}", recorded["kind"]);
            }
        }
        n_episodes += 1;
        n_different += usize::from(!equal);
    }
    println!("{n_episodes} episodes, {n_steps} steps, {n_different} episodes differ");
    if n_different > 0 { Err("the engine differs from the record".into()) } else { Ok(()) }
}
