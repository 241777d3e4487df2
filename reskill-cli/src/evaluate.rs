//! Evaluation on fixed games.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use reskill_envs::{Split, Suite, Task};
use reskill_skills::episode::heed;
use reskill_skills::{Arm, Rate, SkillBank, SkillEpisode};
use serde::{Deserialize, Serialize};

use crate::policy::Policy;
use crate::rollout::{Assignment, RolloutCost, RolloutSettings, collect};
use crate::streams::stream;

/// Success on a set of games.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Success {
    /// Games played.
    pub n_games: u64,
    /// Games won.
    pub won: u64,
    /// Share won, in 0..=1.
    pub rate: f64,
    /// 95% interval of the share (Wilson's score interval).
    pub interval: [f64; 2],
}

impl Success {
    /// From counts.
    #[must_use]
    pub fn new(won: u64, n_games: u64) -> Success {
        let rate = if n_games == 0 { 0.0 } else { won as f64 / n_games as f64 };
        Success { n_games, won, rate, interval: wilson(won, n_games) }
    }
}

/// Result of one evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The split.
    pub split: Split,
    /// Over all games.
    pub overall: Success,
    /// By task family.
    pub families: BTreeMap<String, Success>,
    /// Turns an episode took, mean.
    pub mean_turns: f64,
    /// Score at the end, mean. Where a score is won or lost as a whole it is the share won.
    #[serde(default)]
    pub mean_score: f64,
    /// Further means of the environment's own (search: `exact_match`, `f1`) by name, then by task family, with `all` for all
    /// games.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub measures: BTreeMap<String, BTreeMap<String, f64>>,
    /// Games that the environment lost; no other number counts them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub faults: u64,
    /// How often guidance was followed on turns that showed it.
    pub heeded: Rate,
    /// How often the same action was taken in the same situation without the guidance (from an evaluation without
    /// skills; absent where there was none).
    pub unprompted: Option<Rate>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The episodes of an evaluation, with its cost.
pub struct Played {
    /// In the order of the games, without those that the environment lost.
    pub episodes: Vec<SkillEpisode>,
    /// Games that the environment lost.
    pub faults: u64,
    /// What it cost.
    pub cost: RolloutCost,
}

/// `games` of the tasks, always the same: the families take turns, and a family's tasks are spread evenly over the split;
/// all tasks if there are fewer.
#[must_use]
pub fn fixed_games(tasks: &[Arc<Task>], games: usize) -> Vec<Arc<Task>> {
    let mut families: BTreeMap<&str, Vec<&Arc<Task>>> = BTreeMap::new();
    for task in tasks {
        families.entry(&task.family).or_default().push(task);
    }
    // How many each family gives: one at a time until there are enough.
    let mut shares: Vec<(Vec<&Arc<Task>>, usize)> = families.into_values().map(|tasks| (tasks, 0)).collect();
    let mut missing = games.min(tasks.len());
    while missing > 0 {
        for (tasks, share) in &mut shares {
            if missing > 0 && *share < tasks.len() {
                *share += 1;
                missing -= 1;
            }
        }
    }
    let spread = |(tasks, share): &(Vec<&Arc<Task>>, usize)| -> Vec<Arc<Task>> {
        (0..*share).map(|index| Arc::clone(tasks[index * tasks.len() / share])).collect()
    };
    shares.iter().flat_map(spread).collect()
}

/// Plays `games` fixed games of a split once each, `slots` of them side by side, with draws that depend on the seed and the
/// game alone.
///
/// # Errors
/// If a game cannot be played.
#[expect(clippy::too_many_arguments, reason = "a policy, where it plays, how")]
pub fn play(
    policy: &Policy,
    suite: &dyn Suite,
    split: Split,
    games: usize,
    bank: &SkillBank,
    settings: &RolloutSettings,
    seed: u64,
    slots: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Played> {
    let tasks = fixed_games(suite.tasks(split), games);
    let episodes = Vec::with_capacity(tasks.len());
    let mut played = Played { episodes, faults: 0, cost: RolloutCost::default() };
    let slots = slots.max(1);
    for (batch, tasks_of_batch) in tasks.chunks(slots).enumerate() {
        progress(batch * slots, tasks.len());
        let assignments = tasks_of_batch
            .iter()
            .enumerate()
            .map(|(index, task)| Assignment {
                task: Arc::clone(task),
                group: (batch * slots + index) as u64,
                arm: Arm::Incumbent,
                bank,
                rng: stream(seed, &format!("evaluation of {}", task.id), &[]),
            })
            .collect();
        let (trajectories, cost) = collect(policy, suite, assignments, settings, &mut |_| {})?;
        played.cost += cost;
        let records = trajectories.into_iter().map(|trajectory| trajectory.record);
        let (lost, whole): (Vec<_>, Vec<_>) = records.partition(|record| record.episode.is_lost());
        played.faults += lost.len() as u64;
        played.episodes.extend(whole);
    }
    progress(tasks.len(), tasks.len());
    Ok(played)
}

/// The numbers of an evaluation. `without` are the episodes of the same games without skills, for the rate of the same
/// actions when nothing asks for them.
#[must_use]
pub fn summarise(
    split: Split,
    played: &Played,
    without: Option<&Played>,
    bank: &SkillBank,
    suite: &dyn Suite,
) -> Evaluation {
    let mut counts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut overall = (0, 0);
    for record in &played.episodes {
        let won = u64::from(record.episode.is_success());
        let family = counts.entry(record.episode.task.family.clone()).or_default();
        for count in [family, &mut overall] {
            count.0 += won;
            count.1 += 1;
        }
    }
    let turns: usize = played.episodes.iter().map(|record| record.episode.turns.len()).sum();
    let score: f64 = played.episodes.iter().map(|record| f64::from(record.episode.score)).sum();
    let vocabulary = suite.vocabulary();
    let heeded = heed(&played.episodes, bank, vocabulary).into_values().map(|heed| heed.shown).sum();
    let unprompted = without
        .map(|played| heed(&played.episodes, bank, vocabulary).into_values().map(|heed| heed.unshown).sum());
    Evaluation {
        split,
        overall: Success::new(overall.0, overall.1),
        families: counts.into_iter().map(|(family, (won, n))| (family, Success::new(won, n))).collect(),
        mean_turns: turns as f64 / played.episodes.len().max(1) as f64,
        mean_score: score / played.episodes.len().max(1) as f64,
        measures: measures(played, suite),
        faults: played.faults,
        heeded,
        unprompted,
    }
}

/// Means of the environment's own measures.
fn measures(played: &Played, suite: &dyn Suite) -> BTreeMap<String, BTreeMap<String, f64>> {
    let mut sums: BTreeMap<String, BTreeMap<String, (f64, u64)>> = BTreeMap::new();
    for SkillEpisode { episode, .. } in &played.episodes {
        for (name, value) in suite.measures(episode) {
            let by_family = sums.entry(name.to_string()).or_default();
            for family in [episode.task.family.as_str(), "all"] {
                let sum = by_family.entry(family.to_string()).or_default();
                *sum = (sum.0 + value, sum.1 + 1);
            }
        }
    }
    let mean = |(family, (sum, n)): (String, (f64, u64))| (family, sum / n as f64);
    sums.into_iter().map(|(name, sums)| (name, sums.into_iter().map(mean).collect())).collect()
}

/// Wilson's score interval at 95%.
fn wilson(won: u64, n: u64) -> [f64; 2] {
    if n == 0 {
        return [0.0, 1.0];
    }
    let (z, n) = (1.959_964, n as f64);
    let p = won as f64 / n;
    let center = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    [(center - half).max(0.0), (center + half).min(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_games_hold_every_family_in_equal_shares() {
        let task = |n: usize| {
            Arc::new(Task {
                id: reskill_envs::TaskId(format!("{n}")),
                split: Split::ValidSeen,
                family: format!("family {}", n % 6),
                goal: String::new(),
            })
        };
        let tasks: Vec<Arc<Task>> = (0..300).map(task).collect();
        for games in [6, 60, 100, 300, 1000] {
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            let chosen = fixed_games(&tasks, games);
            assert_eq!(chosen.len(), games.min(300));
            for task in &chosen {
                *counts.entry(task.family.clone()).or_default() += 1;
            }
            let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
            assert!(counts.len() == 6 && most - least <= 1, "{games} games: {counts:?}");
            let distinct: std::collections::BTreeSet<_> = chosen.iter().map(|task| &task.id).collect();
            assert_eq!(distinct.len(), chosen.len());
        }
        assert!(fixed_games(&[], 5).is_empty());
    }

    #[test]
    fn wilson_interval_matches_the_textbook_value() {
        // 8 of 10: Wilson 1927, as tabulated for the score interval: (0.490, 0.943).
        let [low, high] = wilson(8, 10);
        assert!((low - 0.4902).abs() < 1e-3 && (high - 0.9433).abs() < 1e-3, "{low} {high}");
        assert_eq!(wilson(0, 0), [0.0, 1.0]);
    }
}
