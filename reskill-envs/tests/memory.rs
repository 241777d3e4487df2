//! What games and environments cost in memory, by an allocator that counts. A binary of its own with one test: the
//! counter is that of the process.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "it/data.rs"]
mod data;

use std::sync::Arc;

use peak_alloc::PeakAlloc;
use reskill_envs::alfworld::{Alfworld, AlfworldOptions, Game, GameEnv};
use reskill_envs::household::{Household, HouseholdConfig};
use reskill_envs::{Split, Suite, TaskId, TextEnv};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const ENVS: usize = 64;

/// Bytes that each of many running environments of one game adds, after some turns.
fn bytes_per_env(game: &Arc<Game>) -> usize {
    let id = TaskId("train/memory/0".into());
    let mut envs: Vec<Box<dyn TextEnv>> = Vec::with_capacity(ENVS);
    let before = ALLOCATED.current_usage();
    for index in 0..ENVS {
        let mut env: Box<dyn TextEnv> = Box::new(GameEnv::new(Arc::clone(game), id.clone()));
        let mut admissible = env.reset().unwrap().admissible;
        for turn in 0..30 {
            let command = admissible[(index * 31 + turn * 17 + turn * turn * 7) % admissible.len()].clone();
            admissible = env.step(&command).unwrap().observation.admissible;
        }
        envs.push(env.boxed_clone().unwrap());
        envs.push(env);
        envs.swap_remove(0);
    }
    (ALLOCATED.current_usage() - before) / envs.len()
}

#[test]
fn games_and_environments_are_small() {
    let config = HouseholdConfig { n_train: 6, n_seen: 0, n_unseen: 0, ..HouseholdConfig::default() };
    let suite = Household::generate(&config).unwrap();
    let game = suite.game(&suite.tasks(Split::Train)[0].id).unwrap();
    let bytes = bytes_per_env(&game);
    assert!((100..=64 << 10).contains(&bytes), "{bytes} bytes an environment");

    let Some(data) = data::alfworld_data() else { return };
    let suite = Alfworld::open_path(&data, &AlfworldOptions::default()).unwrap();
    let tasks: Vec<TaskId> =
        suite.tasks(Split::Train).iter().step_by(20).map(|task| task.id.clone()).collect();
    // The first game brings the shared rules.
    let first = suite.game(&tasks[0]).unwrap();
    let before = ALLOCATED.current_usage();
    let games: Vec<Arc<Game>> = tasks[1..].iter().map(|id| suite.game(id).unwrap()).collect();
    let per_game = (ALLOCATED.current_usage() - before) / games.len();
    // 4,027 of them must fit into 300 MiB beside the packed files, which take 31.
    assert!((10_000..=68_000).contains(&per_game), "{per_game} bytes a game");
    let bytes = games.iter().chain([&first]).map(bytes_per_env).max().unwrap();
    assert!(bytes <= 64 << 10, "{bytes} bytes an environment");
}
