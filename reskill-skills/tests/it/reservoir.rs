//! What the reservoir keeps.

use reskill_envs::Outcome;
use reskill_skills::reservoir::ReservoirKey;
use reskill_skills::{Arm, Reservoir, ReservoirConfig, SkillBank, SkillEpisode};

use crate::world::{FORGETFUL, batch, play};

fn entry(task: u64, arm: Arm, success: bool, step: u64) -> SkillEpisode {
    let mut played = play(task, FORGETFUL, &SkillBank::default(), arm, 0, 1);
    played.episode.outcome = if success { Outcome::Success } else { Outcome::Failure };
    played.step = step;
    played
}

#[test]
fn newest_wins_per_task_arm_and_outcome() {
    let mut reservoir = Reservoir::new(ReservoirConfig::default());
    let candidate = Arm::Candidate(0);
    reservoir.extend(&[
        entry(1, Arm::Incumbent, true, 1),
        entry(1, Arm::Incumbent, true, 2),
        entry(1, Arm::Incumbent, false, 3),
        entry(1, candidate, true, 4),
    ]);
    reservoir.extend(&[entry(1, Arm::Incumbent, true, 5)]);
    let steps: Vec<u64> = reservoir.entries().iter().map(|played| played.step).collect();
    assert_eq!(steps, [3, 4, 5]);
}

#[test]
fn oldest_go_first_when_full() {
    let mut reservoir = Reservoir::new(ReservoirConfig { capacity: 3, min: 1, ..ReservoirConfig::default() });
    for task in 0..5 {
        reservoir.extend(&[entry(task, Arm::Incumbent, true, task)]);
    }
    let steps: Vec<u64> = reservoir.entries().iter().map(|played| played.step).collect();
    assert_eq!(steps, [2, 3, 4]);
    reservoir.extend(&(10..20).map(|task| entry(task, Arm::Incumbent, true, task)).collect::<Vec<_>>());
    let steps: Vec<u64> = reservoir.entries().iter().map(|played| played.step).collect();
    assert_eq!(steps, [17, 18, 19]);
}

#[test]
fn one_by_one_and_in_a_batch_give_the_same_reservoir() {
    let episodes = batch(0, 20, 4, FORGETFUL, 5);
    let config = ReservoirConfig { capacity: 15, min: 1, ..ReservoirConfig::default() };
    let (mut batched, mut single) = (Reservoir::new(config.clone()), Reservoir::new(config));
    batched.extend(&episodes);
    for played in &episodes {
        single.extend(std::slice::from_ref(played));
    }
    assert_eq!(batched, single);
}

#[test]
fn goal_keys_merge_tasks_of_one_wording() {
    let config = ReservoirConfig { key: ReservoirKey::Goal, ..ReservoirConfig::default() };
    let mut reservoir = Reservoir::new(config);
    reservoir.extend(&[entry(1, Arm::Incumbent, true, 1), entry(2, Arm::Incumbent, true, 2)]);
    assert_eq!(reservoir.len(), 1);
}

#[test]
fn task_groups_come_mixed_first_then_failed_then_succeeded() {
    let mut reservoir = Reservoir::new(ReservoirConfig::default());
    let inc = Arm::Incumbent;
    reservoir.extend(&[
        entry(3, inc, true, 0),
        entry(2, inc, false, 0),
        entry(1, inc, true, 0),
        entry(1, inc, false, 0),
    ]);
    let outcomes: Vec<Vec<bool>> = reservoir
        .task_groups(30)
        .iter()
        .map(|group| group.iter().map(|played| played.episode.is_success()).collect())
        .collect();
    assert_eq!(outcomes, [vec![true, false], vec![false], vec![true]]);
    assert_eq!(reservoir.task_groups(1).len(), 1);
}
