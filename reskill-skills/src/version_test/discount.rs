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
//! M is how many episodes the past is worth. It is estimated from finished tests, see [`RetentionScores`].

use serde::{Deserialize, Serialize};

use crate::version_test::arms::{Arm, Counts, StepCounts};
use crate::version_test::posterior::Beta;

/// Largest M that is tried.
pub const MAX_RETENTION: u32 = 2000;
/// Finished tests needed before M is estimated.
const MIN_TESTS: usize = 2;
/// Smallest alpha and beta in the replay (not in the live update).
const FLOOR: f64 = 1e-6;

/// Strategy of discounting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// The weight w of the past in an update by `episodes` new episodes, in 0..=1.
    ///
    /// `none`: 1. `dynamic`: M / (M + n), 1 while M is unknown or n = 0. `last_step`: 0, since nothing is kept but the
    /// prior, also in a step without episodes.
    #[must_use]
    pub fn weight(self, episodes: u64, retention: Option<u32>) -> f64 {
        match self {
            Discount::None => 1.0,
            Discount::LastStep => 0.0,
            Discount::Dynamic => weight(episodes, retention),
        }
    }

    /// The posterior after a step.
    #[must_use]
    pub fn update(self, posterior: Beta, counts: Counts, retention: Option<u32>) -> Beta {
        let (successes, failures) = split(counts);
        let w = self.weight(counts.episodes, retention);
        match self {
            Discount::LastStep => Beta { alpha: 1.0 + successes, beta: 1.0 + failures },
            _ => Beta { alpha: w * posterior.alpha + successes, beta: w * posterior.beta + failures },
        }
    }
}

/// Empirical-Bayes estimate of M from finished tests: [`RetentionScores`] of all of them at once.
///
/// - `tests`: number of arms and counts of each finished test
/// - result: in 1..=2000; `None` until two tests have finished
#[must_use]
pub fn estimate_retention<'a>(tests: impl IntoIterator<Item = (usize, &'a [StepCounts])>) -> Option<u32> {
    let mut scores = RetentionScores::default();
    for (n_arms, steps) in tests {
        let arms: Vec<Vec<Counts>> = (0..n_arms)
            .map(|index| steps.iter().map(|step| step.totals(Arm::from_index(index))).collect())
            .collect();
        scores.add(arms.iter().map(Vec::as_slice));
    }
    scores.best()
}

/// The score of every M in 1..=2000, test by test.
///
/// Every finished test is replayed from Beta(1, 1); the score of M is the sum, over steps and arms with n > 0, of the log
/// Beta-Binomial probability of m successes in n episodes under the posterior discounted for this step:
///
/// ```text
/// a = max(w alpha, 1e-6)    b = max(w beta, 1e-6)    w = M / (M + n)
/// ln BB(m; n, a, b) = ln C(n, m) + ln B(a + m, b + n - m) - ln B(a, b)
/// alpha <- a + m            beta <- b + n - m
/// ```
///
/// The binomial coefficient is left out: it does not depend on M. The floor of 1e-6 is in this replay alone.
/// Source: the published implementation of ReSkill (arXiv 2606.01619).
///
/// ```
/// use reskill_skills::version_test::{Counts, discount::RetentionScores};
///
/// let steady = [Counts { episodes: 64, successes: 32 }; 5];
/// let mut scores = RetentionScores::default();
/// scores.add([steady.as_slice(), steady.as_slice()]);
/// assert_eq!(scores.best(), None);
/// scores.add([steady.as_slice(), steady.as_slice()]);
/// assert_eq!(scores.best(), Some(2000));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RetentionScores {
    /// (2000): for M = 1, 2, ...
    scores: Vec<f64>,
    /// (2000): sum of the sizes of all terms, which bounds the rounding of the score.
    sizes: Vec<f64>,
    n_tests: usize,
}

impl Default for RetentionScores {
    fn default() -> Self {
        Self {
            scores: vec![0.0; MAX_RETENTION as usize],
            sizes: vec![0.0; MAX_RETENTION as usize],
            n_tests: 0,
        }
    }
}

impl RetentionScores {
    /// Adds a finished test: for each arm its counts, step by step.
    pub fn add<'a>(&mut self, arms: impl IntoIterator<Item = &'a [Counts]>) {
        for steps in arms {
            for (retention, (score, size)) in
                (1..=MAX_RETENTION).zip(self.scores.iter_mut().zip(&mut self.sizes))
            {
                let (added, magnitude) = log_likelihood(steps, retention);
                *score += added;
                *size += magnitude;
            }
        }
        self.n_tests += 1;
    }

    /// The score of one M, without binomial coefficients; `None` outside 1..=2000.
    #[must_use]
    pub fn score(&self, retention: u32) -> Option<f64> {
        self.scores.get(usize::try_from(retention).ok()?.checked_sub(1)?).copied()
    }

    /// The M with the highest score; `None` until two tests have finished.
    ///
    /// The smallest on ties. Scores that differ by less than the rounding of their terms are ties: two that are equal on
    /// paper need not be equal in the last digit.
    #[must_use]
    pub fn best(&self) -> Option<u32> {
        if self.n_tests < MIN_TESTS {
            return None;
        }
        let highest = self.scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (1..=MAX_RETENTION)
            .zip(self.scores.iter().zip(&self.sizes))
            .find(|(_, (score, size))| **score >= highest - 2.0 * f64::EPSILON * **size)
            .map(|(retention, _)| retention)
    }
}

/// Log-likelihood of one arm's steps under M, and the sum of the sizes of its terms.
fn log_likelihood(steps: &[Counts], retention: u32) -> (f64, f64) {
    let mut posterior = Beta::UNIFORM;
    let (mut sum, mut size) = (0.0, 0.0);
    for counts in steps.iter().filter(|counts| counts.episodes > 0) {
        let w = weight(counts.episodes, Some(retention));
        let (successes, failures) = split(*counts);
        let (alpha, beta) = ((w * posterior.alpha).max(FLOOR), (w * posterior.beta).max(FLOOR));
        let won = ln_rising(alpha, successes);
        let lost = ln_rising(beta, failures);
        let all = ln_rising(alpha + beta, successes + failures);
        sum += won + lost - all;
        size += won.abs() + lost.abs() + all.abs();
        posterior = Beta { alpha: alpha + successes, beta: beta + failures };
    }
    (sum, size)
}

/// `ln(a (a + 1) ... (a + k - 1))` = ln Gamma(a + k) - ln Gamma(a), for whole k >= 0.
///
/// A product while there are few factors; beyond that Stirling's series of both, whose large parts are subtracted in the
/// formula (DLMF 5.11.1).
fn ln_rising(a: f64, k: f64) -> f64 {
    let product = |from: f64, factors: f64| {
        let (mut product, mut ln, mut i) = (1.0_f64, 0.0, 0.0);
        while i < factors {
            product *= from + i;
            if product > 1e250 {
                ln += product.ln();
                product = 1.0;
            }
            i += 1.0;
        }
        ln + product.ln()
    };
    if k <= 32.0 {
        return product(a, k);
    }
    // The series needs an argument of 16; the first factors are multiplied out.
    let shift = (16.0 - a).ceil().max(0.0);
    let (z, k) = (a + shift, k - shift);
    product(a, shift) + (z - 0.5) * (k / z).ln_1p() + k * (z + k).ln() - k + stirling(z + k) - stirling(z)
}

/// What Stirling's formula leaves: `1/(12 z) - 1/(360 z^3) + ...`, to 1e-17 for z >= 16.
fn stirling(z: f64) -> f64 {
    let r = 1.0 / (z * z);
    let inner = 1.0 / 1260.0 - r * (1.0 / 1680.0 - r * (1.0 / 1188.0 - r * 691.0 / 360_360.0));
    (1.0 / 12.0 - r * (1.0 / 360.0 - r * inner)) / z
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
        // No episodes: every M scores 0. One episode from Beta(w, w): every M scores ln 1/2, up to rounding.
        for tied in [vec![step((0, 0), (0, 0)); 3], vec![step((1, 1), (0, 1))]] {
            assert_eq!(estimate_retention([(2, tied.as_slice()), (2, tied.as_slice())]), Some(1));
        }
    }

    #[test]
    fn rising_factorials_match_sums_of_logarithms() {
        for (a, k) in [(1e-6, 1u32), (0.3, 40), (17.2, 33), (2.5, 500), (1e-6, 64), (4000.5, 3000)] {
            let expected: f64 = (0..k).map(|i| (a + f64::from(i)).ln()).sum();
            let got = ln_rising(a, f64::from(k));
            // Rounding of the sum of k logarithms.
            assert!(
                (got - expected).abs() < 1e-15 * (f64::from(k) + expected.abs()) * 8.0,
                "{a} {k}: {got} {expected}"
            );
        }
        assert_eq!(ln_rising(0.7, 0.0), 0.0);
    }
}
