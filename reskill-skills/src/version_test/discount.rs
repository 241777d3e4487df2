//! How old evidence fades while the policy drifts.
//!
//! With n episodes and m successes of an arm in this step:
//!
//! ```text
//! w = M / (M + n)          w = 1 while M is unknown, or when n = 0
//! alpha <- w alpha + m
//! beta  <- w beta + (n - m)
//! ```
//!
//! M is how many episodes the past is worth. It is estimated from finished tests by [`estimate_retention`].

use serde::{Deserialize, Serialize};

use crate::version_test::arms::{Arm, Counts, StepCounts};
use crate::version_test::posterior::{Beta, ln_beta};

/// Largest M that is tried.
pub const MAX_RETENTION: u32 = 2000;
/// Finished tests needed before M is estimated.
const MIN_TESTS: usize = 2;
/// Smallest alpha and beta in the replay (not in the live update).
const FLOOR: f64 = 1e-6;

/// Strategy of discounting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Discount {
    /// All evidence counts alike.
    None,
    /// Only the last step counts: alpha = 1 + m, beta = 1 + n - m.
    LastStep,
    /// Weights from the estimated M.
    #[default]
    Dynamic,
}

impl Discount {
    /// The weight of the past in an update by `episodes` new episodes; `None` for the last-step strategy.
    #[must_use]
    pub fn weight(self, episodes: u64, retention: Option<u32>) -> Option<f64> {
        match self {
            Discount::None => Some(1.0),
            Discount::LastStep => None,
            Discount::Dynamic => Some(weight(episodes, retention)),
        }
    }

    /// The posterior after a step.
    #[must_use]
    pub fn update(self, posterior: Beta, counts: Counts, retention: Option<u32>) -> Beta {
        let (successes, failures) = split(counts);
        match self.weight(counts.episodes, retention) {
            Some(w) => Beta { alpha: w * posterior.alpha + successes, beta: w * posterior.beta + failures },
            None => Beta { alpha: 1.0 + successes, beta: 1.0 + failures },
        }
    }
}

/// Empirical-Bayes estimate of M from finished tests.
///
/// For M in 1..=2000 every test is replayed from Beta(1, 1); the score of M is the sum, over steps and arms with
/// n > 0, of the log Beta-Binomial probability of (m, n) under the posterior discounted for this step, alpha and beta
/// floored at 1e-6. The best M wins, the smallest on ties; `None` until two tests have finished.
#[must_use]
pub fn estimate_retention<'a>(tests: impl IntoIterator<Item = (usize, &'a [StepCounts])>) -> Option<u32> {
    let tests: Vec<(usize, &[StepCounts])> = tests.into_iter().collect();
    if tests.len() < MIN_TESTS {
        return None;
    }
    let mut replays: Vec<Vec<Counts>> = Vec::new();
    for (n_arms, steps) in tests {
        for index in 0..n_arms {
            replays.push(steps.iter().map(|step| step.totals(Arm::from_index(index))).collect());
        }
    }
    let mut best: Option<(u32, f64)> = None;
    for retention in 1..=MAX_RETENTION {
        let score: f64 = replays.iter().map(|steps| log_likelihood(steps, retention)).sum();
        if best.is_none_or(|(_, highest)| score > highest) {
            best = Some((retention, score));
        }
    }
    best.map(|(retention, _)| retention)
}

/// Log-likelihood of one arm's steps under M.
fn log_likelihood(steps: &[Counts], retention: u32) -> f64 {
    let mut posterior = Beta::UNIFORM;
    let mut sum = 0.0;
    for counts in steps.iter().filter(|counts| counts.episodes > 0) {
        let w = weight(counts.episodes, Some(retention));
        let (successes, failures) = split(*counts);
        let (alpha, beta) = ((w * posterior.alpha).max(FLOOR), (w * posterior.beta).max(FLOOR));
        // The binomial coefficient does not depend on M.
        sum += ln_beta(alpha + successes, beta + failures) - ln_beta(alpha, beta);
        posterior = Beta { alpha: alpha + successes, beta: beta + failures };
    }
    sum
}

#[expect(clippy::cast_precision_loss, reason = "counts of episodes stay far below 2^52")]
fn weight(episodes: u64, retention: Option<u32>) -> f64 {
    match retention {
        Some(retention) if episodes > 0 => f64::from(retention) / (f64::from(retention) + episodes as f64),
        _ => 1.0,
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of episodes stay far below 2^52")]
fn split(counts: Counts) -> (f64, f64) {
    (counts.successes as f64, counts.episodes.saturating_sub(counts.successes) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version_test::arms::GroupCounts;

    fn step(new: (u64, u64), old: (u64, u64)) -> StepCounts {
        let counts = |(successes, episodes)| Counts { episodes, successes };
        StepCounts { step: 0, groups: vec![GroupCounts { group: 0, arms: vec![counts(old), counts(new)] }] }
    }

    #[test]
    fn updates_match_hand_computed_numbers() {
        let counts = Counts { episodes: 10, successes: 4 };
        let before = Beta { alpha: 3.0, beta: 5.0 };
        // w = 30 / 40
        let after = Discount::Dynamic.update(before, counts, Some(30));
        assert_eq!((after.alpha, after.beta), (0.75 * 3.0 + 4.0, 0.75 * 5.0 + 6.0));
        let unknown = Discount::Dynamic.update(before, counts, None);
        assert_eq!((unknown.alpha, unknown.beta), (7.0, 11.0));
        assert_eq!(Discount::None.update(before, counts, Some(30)), unknown);
        let last = Discount::LastStep.update(before, counts, Some(30));
        assert_eq!((last.alpha, last.beta), (5.0, 7.0));
        assert_eq!(Discount::Dynamic.update(before, Counts::default(), Some(1)), before);
    }

    #[test]
    fn retention_is_unknown_until_two_tests_have_finished() {
        let steps = vec![step((5, 10), (5, 10)); 3];
        assert_eq!(estimate_retention([(2, steps.as_slice())]), None);
        assert!(estimate_retention([(2, steps.as_slice()), (2, steps.as_slice())]).is_some());
    }

    #[test]
    fn retention_is_large_for_steady_rates_and_small_for_jumping_ones() {
        let steady = vec![step((32, 64), (32, 64)); 5];
        assert_eq!(estimate_retention([(2, steady.as_slice()), (2, steady.as_slice())]), Some(MAX_RETENTION));
        let jumping: Vec<StepCounts> = (0..5)
            .map(|i| if i % 2 == 0 { step((2, 64), (3, 64)) } else { step((60, 64), (62, 64)) })
            .collect();
        let m = estimate_retention([(2, jumping.as_slice()), (2, jumping.as_slice())]).unwrap();
        assert!(m < 10, "{m}");
    }

    #[test]
    fn retention_is_the_smallest_on_ties() {
        // No episodes: every M scores 0.
        let empty = vec![step((0, 0), (0, 0)); 3];
        assert_eq!(estimate_retention([(2, empty.as_slice()), (2, empty.as_slice())]), Some(1));
    }
}
