//! The stratified comparison of two arms: the score of Cochran, Mantel and Haenszel.

use serde::{Deserialize, Serialize};

use crate::version_test::arms::{Arm, StepCounts};
use crate::version_test::spending::upper_tail;

/// Observed minus expected successes of the candidate, summed over groups, and its variance if the arms were equal.
///
/// In a group with N = n1 + n0 episodes and m successes, of which the candidate has m1:
///
/// ```text
/// E = n1 m / N      V = n1 n0 m (N - m) / (N^2 (N - 1))
/// ```
///
/// Episodes of one group share a task, so difficulty cancels. A group without both arms, or in which all episodes
/// succeed or all fail, says nothing and adds nothing. With further arms in the group, the pair is compared alone.
/// Source: Mantel & Haenszel 1959.
///
/// ```
/// use reskill_skills::version_test::score::Score;
///
/// // One task: the candidate succeeds in 3 of 4 episodes, the incumbent in 1 of 4.
/// let mut total = Score::default();
/// total.add((4, 3), (4, 1));
/// assert_eq!(total.score, 1.0);
/// assert!((total.variance - 4.0 / 7.0).abs() < 1e-12);
/// // One-sided p-value.
/// assert!((total.p_value().unwrap() - 0.092_94).abs() < 1e-5);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Sum of m1 - E.
    pub score: f64,
    /// Sum of V.
    pub variance: f64,
}

impl Score {
    /// Adds one group: episodes and successes of the candidate, then of the incumbent.
    #[expect(clippy::cast_precision_loss, reason = "counts of episodes stay far below 2^52")]
    pub fn add(&mut self, (n1, m1): (u64, u64), (n0, m0): (u64, u64)) {
        let (n, m) = ((n1 + n0) as f64, (m1 + m0) as f64);
        if n1 == 0 || n0 == 0 || n < 2.0 {
            return;
        }
        let (n1, n0) = (n1 as f64, n0 as f64);
        self.score += m1 as f64 - n1 * m / n;
        self.variance += n1 * n0 * m * (n - m) / (n * n * (n - 1.0));
    }

    /// The score of a candidate after some steps.
    #[must_use]
    pub fn of(steps: &[StepCounts], candidate: Arm) -> Self {
        let mut total = Self::default();
        for group in steps.iter().flat_map(|step| &step.groups) {
            let counts = |arm: Arm| group.arms.get(arm.index()).map_or((0, 0), |c| (c.episodes, c.successes));
            total.add(counts(candidate), counts(Arm::Incumbent));
        }
        total
    }

    /// score / sqrt(variance); `None` while no group is informative.
    #[must_use]
    pub fn z(self) -> Option<f64> {
        (self.variance > 0.0).then(|| self.score / self.variance.sqrt())
    }

    /// One-sided p-value of "the candidate is better" by the normal approximation, `P(Z > z)`, no continuity correction;
    /// `z^2` is the chi-squared statistic of Cochran, Mantel and Haenszel with one degree of freedom.
    #[must_use]
    pub fn p_value(self) -> Option<f64> {
        self.z().map(upper_tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn score_matches_hand_computed_tables() {
        let mut score = Score::default();
        // n1 = n0 = 4, m1 = 3, m0 = 1: E = 2, V = 4*4*4*4 / (64*7) = 4/7.
        score.add((4, 3), (4, 1));
        assert!((score.score - 1.0).abs() < 1e-12 && (score.variance - 4.0 / 7.0).abs() < 1e-12);
        // n1 = 2, n0 = 3, m1 = 2, m0 = 1: E = 6/5, V = 2*3*3*2 / (25*4) = 0.36.
        score.add((2, 2), (3, 1));
        assert!((score.score - 1.8).abs() < 1e-12);
        assert!((score.z().unwrap() - 1.8 / (4.0 / 7.0 + 0.36_f64).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn groups_without_contrast_add_nothing() {
        let mut score = Score::default();
        score.add((4, 4), (4, 4));
        score.add((4, 0), (4, 0));
        score.add((8, 5), (0, 0));
        assert_eq!(score, Score::default());
        assert!(score.z().is_none());
    }
}
