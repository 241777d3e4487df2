//! The engine against recorded episodes of the original, and against every walkthrough. Without the data the tests
//! pass: set `RESKILL_DATA` to the folder above `alfworld/`.
use std::sync::Arc;

use rayon::prelude::*;
use reskill_envs::alfworld::{Alfworld, AlfworldOptions, Game, GameEnv};
use reskill_envs::{Split, Suite, Task, TaskId};

use crate::data::alfworld_data;
use crate::transcript::{Transcript, check, read_lines};

fn all_games() -> Option<Alfworld> {
    let options = AlfworldOptions { splits: Split::ALL.to_vec(), ..AlfworldOptions::default() };
    Some(Alfworld::open_path(&alfworld_data()?, &options).unwrap())
}

fn all_tasks(suite: &Alfworld) -> Vec<Arc<Task>> {
    Split::ALL.iter().flat_map(|&split| suite.tasks(split)).cloned().collect()
}

#[test]
fn golden_transcripts_are_reproduced_to_the_byte() {
    let Some(data) = alfworld_data() else { return };
    let suite = Alfworld::open_path(&data.join("raw_sample"), &AlfworldOptions::default()).unwrap();
    let file = std::fs::File::open(data.join("golden_transcripts.jsonl.gz")).unwrap();
    let transcripts: Vec<Transcript> = read_lines(file);
    assert_eq!(transcripts.len(), 96);
    for transcript in &transcripts {
        check(suite.open(&TaskId(transcript.id.clone())).unwrap().as_mut(), transcript);
    }
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
    let counts = Split::ALL.map(|split| suite.tasks(split).len());
    assert_eq!(counts, [3_553, 140, 134, 200]);
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
            won = env.step(command).unwrap().won;
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
        let mut admissible = env.reset().unwrap().admissible;
        let mut won = false;
        for turn in 0..40 {
            // A fixed walk that looks random enough.
            let command = admissible[(index * 31 + turn * 17 + turn * turn * 7) % admissible.len()].clone();
            let step = env.step(&command).unwrap();
            (admissible, won) = (step.observation.admissible, step.won);
        }
        if won {
            return;
        }
        let plan = match env.expert() {
            Ok(plan) => plan,
            Err(error) => {
                // Some objects fit nowhere in their house: who picks one up holds it for ever.
                let carried = env.step("inventory").unwrap().observation.text;
                let name = carried.strip_prefix("You are carrying: a ").unwrap().trim_end_matches('.');
                let game = suite.game(&task.id).unwrap();
                let stuck = !game.commands().any(|command| command.starts_with(&format!("move {name} to ")));
                assert!(stuck, "{error}: {carried}");
                return;
            }
        };
        let last = plan.iter().map(|command| env.step(command).unwrap()).last().unwrap();
        assert!(last.won, "{}: {plan:?}", task.id);
    });
}
