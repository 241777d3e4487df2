//! The engine against recorded episodes of the original, and against every walkthrough. Without the data the tests
//! pass: set `RESKILL_DATA` to the folder above `alfworld/`.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::io::{BufRead, BufReader};
use std::sync::Arc;

use rayon::prelude::*;
use reskill_envs::alfworld::{Alfworld, AlfworldOptions, Game, GameEnv};
use reskill_envs::{Split, Suite, Task, TaskId, TextEnv};
use serde_json::Value;

fn all_games() -> Option<Alfworld> {
    let options = AlfworldOptions { splits: Split::ALL.to_vec(), ..AlfworldOptions::default() };
    Some(Alfworld::open_path(&common::alfworld_data()?, &options).unwrap())
}

fn all_tasks(suite: &Alfworld) -> Vec<Arc<Task>> {
    Split::ALL.iter().flat_map(|&split| suite.tasks(split)).cloned().collect()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn golden_transcripts_are_reproduced_to_the_byte() {
    let Some(data) = common::alfworld_data() else { return };
    let options = AlfworldOptions::default();
    let suite = Alfworld::open_path(&data.join("raw_sample"), &options).unwrap();
    let file = std::fs::File::open(data.join("golden_transcripts.jsonl.gz")).unwrap();
    let mut n_episodes = 0;
    for line in BufReader::new(flate2::read::GzDecoder::new(file)).lines() {
        let golden: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let id = TaskId(golden["id"].as_str().unwrap().to_owned());
        let mut env = suite.open(&id).unwrap();
        let first = env.reset();
        assert_eq!(first.text, golden["reset"]["obs"].as_str().unwrap(), "{id}");
        assert_eq!(first.admissible, strings(&golden["reset"]["admissible"]), "{id}");
        for (expected, turn_idx) in golden["steps"].as_array().unwrap().iter().zip(0..) {
            let step = env.step(expected["action"].as_str().unwrap());
            assert_eq!(step.observation.text, expected["obs"].as_str().unwrap(), "{id} turn {turn_idx}");
            assert_eq!(step.observation.admissible, strings(&expected["admissible"]), "{id} turn {turn_idx}");
            assert_eq!(f64::from(step.score), expected["score"].as_f64().unwrap(), "{id} turn {turn_idx}");
            assert_eq!(step.won, expected["won"].as_bool().unwrap(), "{id} turn {turn_idx}");
            assert_eq!(step.done, expected["done"].as_bool().unwrap(), "{id} turn {turn_idx}");
        }
        n_episodes += 1;
    }
    assert_eq!(n_episodes, 96);
}

fn check_walkthrough(game: &Arc<Game>, id: &TaskId) {
    let mut env = GameEnv::new(Arc::clone(game), id.clone());
    assert!(!env.won(), "{id}");
    let (last, before) = game.walkthrough().split_last().unwrap();
    for command in before {
        assert!(!env.step(command).won, "{id}: {command}");
    }
    assert!(env.step(last).won, "{id}: {last}");
}

#[test]
fn every_walkthrough_wins_at_its_last_command() {
    let Some(suite) = all_games() else { return };
    let tasks = all_tasks(&suite);
    assert_eq!(tasks.len(), 4_027);
    tasks.par_iter().for_each(|task| check_walkthrough(&suite.game(&task.id).unwrap(), &task.id));
}

#[test]
fn the_expert_solves_real_games_about_as_fast_as_the_walkthrough() {
    let Some(suite) = all_games() else { return };
    let tasks: Vec<Arc<Task>> = all_tasks(&suite).into_iter().step_by(7).collect();
    let lengths = tasks.par_iter().map(|task| {
        let mut env = suite.open(&task.id).unwrap();
        let plan = env.expert().unwrap();
        let mut won = false;
        for command in &plan {
            assert!(!won, "{}: {plan:?}", task.id);
            won = env.step(command).won;
        }
        assert!(won, "{}: {plan:?}", task.id);
        (plan.len(), suite.walkthrough(&task.id).unwrap().len())
    });
    let (plans, walkthroughs) = lengths.reduce(|| (0, 0), |left, right| (left.0 + right.0, left.1 + right.1));
    assert!(plans * 100 <= walkthroughs * 103, "{plans} commands against {walkthroughs}");
}

#[test]
fn the_expert_solves_real_games_from_wherever_random_commands_lead() {
    let Some(suite) = all_games() else { return };
    let tasks: Vec<Arc<Task>> = all_tasks(&suite).into_iter().step_by(19).collect();
    tasks.par_iter().enumerate().for_each(|(index, task)| {
        let mut env = suite.open(&task.id).unwrap();
        let mut admissible = env.reset().admissible;
        let mut won = false;
        for turn in 0..40 {
            // A fixed walk that looks random enough.
            let command = admissible[(index * 31 + turn * 17 + turn * turn * 7) % admissible.len()].clone();
            let step = env.step(&command);
            (admissible, won) = (step.observation.admissible, step.won);
        }
        if won {
            return;
        }
        let plan = match env.expert() {
            Ok(plan) => plan,
            Err(error) => {
                // Some objects fit nowhere in their house: who picks one up holds it for ever.
                let carried = env.step("inventory").observation.text;
                let name = carried.strip_prefix("You are carrying: a ").unwrap().trim_end_matches('.');
                let game = suite.game(&task.id).unwrap();
                let stuck =
                    !game.commands().iter().any(|command| command.starts_with(&format!("move {name} to ")));
                assert!(stuck, "{error}: {carried}");
                return;
            }
        };
        let last = plan.iter().map(|command| env.step(command)).last().unwrap();
        assert!(last.won, "{}: {plan:?}", task.id);
    });
}
