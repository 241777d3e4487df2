//! Draws the games of each split.

use std::collections::HashSet;

use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::config::HouseholdConfig;
use super::goal::{Goal, Goals};
use super::house::{House, Layout};
use super::problem::write_problem;
use crate::suite::{Split, TaskId};

/// One generated game.
#[derive(Debug)]
pub(super) struct Generated {
    pub(super) id: TaskId,
    pub(super) split: Split,
    pub(super) goal: Goal,
    pub(super) problem: String,
}

/// Draws all games. Each game has a random stream of its own, so it does not depend on how many there are.
pub(super) fn generate(config: &HouseholdConfig) -> Vec<Generated> {
    let goals = Goals::divide(config.seed, config.appliances);
    let mut fingerprints = HashSet::new();
    let mut games = Vec::with_capacity(config.n_train + config.n_seen + config.n_unseen);
    for (split, n_games) in [
        (Split::Train, config.n_train),
        (Split::ValidSeen, config.n_seen),
        (Split::ValidUnseen, config.n_unseen),
    ] {
        let pool: Vec<Goal> = match split {
            Split::ValidUnseen => goals.unseen.clone(),
            Split::ValidSeen => trained_goals(&goals, &games),
            Split::Train | Split::ValidTrain => goals.train.clone(),
        };
        for index in 0..n_games {
            let family = config.families[index % config.families.len()];
            let fitting: Vec<Goal> = pool.iter().copied().filter(|goal| goal.family == family).collect();
            let mut rng = stream(config.seed, split, index);
            // Every family has goals on both sides, so there is always one to draw.
            while let Some(&goal) = fitting.choose(&mut rng) {
                let layout = Layout::draw(&goal, config.appliances, &mut rng);
                if layout.is_unseen(config.seed) != (split == Split::ValidUnseen) {
                    continue;
                }
                let house = House::furnish(layout, &goal, config, &mut rng);
                // The problem's name is the same everywhere, so equal texts are equal games.
                let problem = write_problem(&house, &goal, "house");
                if fingerprints.insert(problem.clone()) {
                    games.push(Generated { id: task_id(split, &goal, index), split, goal, problem });
                    break;
                }
            }
        }
    }
    games
}

/// The goals that the training games ask for, and all of a family that they leave out.
fn trained_goals(goals: &Goals, train: &[Generated]) -> Vec<Goal> {
    let mut pool: Vec<Goal> = train.iter().map(|game| game.goal).collect();
    pool.sort_unstable();
    pool.dedup();
    let missing = |goal: &&Goal| !train.iter().any(|game| game.goal.family == goal.family);
    pool.extend(goals.train.iter().filter(missing));
    pool
}

fn stream(seed: u64, split: Split, index: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Stream 0 divides the goals.
    rng.set_stream(1 + ((split as u64) << 32) + index as u64);
    rng
}

/// `train/pick_and_place_simple-mug-None-shelf-17/trial_0017`, in the form of ALFWorld's ids.
fn task_id(split: Split, goal: &Goal, index: usize) -> TaskId {
    let Goal { family, object, target } = goal;
    TaskId(format!("{split}/{family}-{object}-None-{target}-{index}/trial_{index:04}"))
}
