//! The numbers of an evaluation.

use std::collections::BTreeMap;

use serde::Serialize;

use super::contestant::{Outcome, Outcomes};
use crate::statistics::{Difference, Mean, difference, mean};

/// What one contestant reached on one split. Rates are in 0..=1.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    /// Who played.
    pub(super) played: String,
    /// Share of games won: of each game over its seeds, then over games.
    pub(super) success: Mean,
    /// Score at the end.
    pub(super) score: Mean,
    /// Success by task family.
    pub(super) families: BTreeMap<String, Mean>,
    /// Success with each seed.
    pub(super) by_seed: BTreeMap<u64, f64>,
    /// Turns of an episode, mean.
    pub(super) mean_turns: f64,
    /// Episodes played.
    pub(super) n_episodes: usize,
    /// Episodes that the environment lost; no other number counts them.
    pub(super) faults: u64,
}

impl Measured {
    pub(super) fn of(outcomes: &Outcomes) -> Measured {
        let all: Vec<(&u64, &Outcome)> = outcomes.games.values().flatten().collect();
        let mut families: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for seeds in outcomes.games.values() {
            if let Some(one) = seeds.values().next() {
                families.entry(one.family.clone()).or_default().push(over_seeds(seeds, won));
            }
        }
        let mut by_seed: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for (seed, outcome) in &all {
            by_seed.entry(**seed).or_default().push(won(outcome));
        }
        let turns: usize = all.iter().map(|(_, outcome)| outcome.turns).sum();
        Measured {
            played: outcomes.name.clone(),
            success: mean(&by_game(outcomes, won)),
            score: mean(&by_game(outcomes, |outcome| outcome.score)),
            families: families.into_iter().map(|(family, values)| (family, mean(&values))).collect(),
            by_seed: by_seed.into_iter().map(|(seed, values)| (seed, average(&values))).collect(),
            mean_turns: turns as f64 / all.len().max(1) as f64,
            n_episodes: all.len(),
            faults: outcomes.faults,
        }
    }
}

/// How far the first contestant is ahead of another on the games and seeds that both played.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    /// Who is compared.
    pub(super) of: String,
    /// With whom.
    pub(super) against: String,
    /// Difference of the shares of games won.
    pub(super) success: Difference,
    /// Difference of the scores.
    pub(super) score: Difference,
}

impl Comparison {
    pub(super) fn of(first: &Outcomes, other: &Outcomes) -> Comparison {
        let paired = |value: fn(&Outcome) -> f64| -> Vec<f64> {
            let both = first.games.iter().filter_map(|(game, ours)| Some((ours, other.games.get(game)?)));
            both.filter_map(|(ours, theirs)| {
                let pairs =
                    ours.iter().filter_map(|(seed, ours)| Some(value(ours) - value(theirs.get(seed)?)));
                let pairs: Vec<f64> = pairs.collect();
                (!pairs.is_empty()).then(|| average(&pairs))
            })
            .collect()
        };
        Comparison {
            of: first.name.clone(),
            against: other.name.clone(),
            success: difference(&paired(won)),
            score: difference(&paired(|outcome| outcome.score)),
        }
    }
}

fn won(outcome: &Outcome) -> f64 {
    f64::from(u8::from(outcome.won))
}

fn by_game(outcomes: &Outcomes, value: fn(&Outcome) -> f64) -> Vec<f64> {
    outcomes.games.values().map(|seeds| over_seeds(seeds, value)).collect()
}

fn over_seeds(seeds: &BTreeMap<u64, Outcome>, value: fn(&Outcome) -> f64) -> f64 {
    average(&seeds.values().map(value).collect::<Vec<_>>())
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
