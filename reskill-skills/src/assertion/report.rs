//! Pass rates of assertions, split by outcome and by arm, and how well each tells success from failure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::assertion::AssertionSet;
use crate::episode::{Rate, SkillEpisode};

/// Two-sided 95% quantile of the normal distribution.
const Z95: f64 = 1.959_963_984_540_054;

/// Pass rates of one assertion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AssertionRow {
    /// The assertion.
    pub name: String,
    /// Among successful episodes.
    pub success: Rate,
    /// Among failed ones.
    pub failure: Rate,
    /// Pass rate of successes minus that of failures; `None` if one of them is empty.
    pub discrimination: Option<f64>,
    /// By arm (`incumbent`, `candidate 0`): passes among its successes, and among its failures.
    #[serde(default)]
    pub arms: BTreeMap<String, [Rate; 2]>,
}

/// How well an assertion tells success from failure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Discrimination {
    /// Pass rate of successes minus that of failures, -1..=1: 1 tells all, 0 nothing.
    pub difference: f64,
    /// Newcombe's 95% interval of the difference, from the two Wilson intervals (Newcombe 1998, method 10).
    pub interval: [f64; 2],
}

impl AssertionRow {
    /// The difference of the pass rates with its interval; `None` if there is no success or no failure.
    #[must_use]
    pub fn discriminates(&self) -> Option<Discrimination> {
        let ((s, [s_low, s_high]), (f, [f_low, f_high])) = (
            self.success.value().zip(self.success.wilson())?,
            self.failure.value().zip(self.failure.wilson())?,
        );
        let below = ((s - s_low).powi(2) + (f_high - f).powi(2)).sqrt();
        let above = ((s_high - s).powi(2) + (f - f_low).powi(2)).sqrt();
        Some(Discrimination { difference: s - f, interval: [s - f - below, s - f + above] })
    }
}

impl Rate {
    /// Wilson's 95% score interval of the share (Wilson 1927); `None` of nothing. It stays inside 0..=1 and holds its
    /// level better than the normal approximation at shares near 0 and 1, and is narrower than the exact interval.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of episodes stay far below 2^52")]
    pub fn wilson(self) -> Option<[f64; 2]> {
        let (share, n) = (self.value()?, self.total as f64);
        let z2 = Z95 * Z95;
        let middle = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = Z95 / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
        Some([(middle - half).max(0.0), (middle + half).min(1.0)])
    }
}

/// Pass rates of all live assertions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AssertionReport {
    /// In the order of the set.
    pub rows: Vec<AssertionRow>,
}

impl AssertionReport {
    /// Evaluates every assertion on every episode.
    #[must_use]
    pub fn of(set: &AssertionSet, episodes: &[SkillEpisode]) -> Self {
        let rows = set
            .assertions()
            .iter()
            .map(|assertion| {
                let (mut success, mut failure) = (Rate::default(), Rate::default());
                let mut arms: BTreeMap<String, [Rate; 2]> = BTreeMap::new();
                for played in episodes {
                    let passed = assertion.check.eval(&played.episode);
                    let won = played.episode.is_success();
                    if won {
                        success.add(passed)
                    } else {
                        failure.add(passed)
                    }
                    arms.entry(played.arm.to_string()).or_default()[usize::from(!won)].add(passed);
                }
                let discrimination = success.value().zip(failure.value()).map(|(s, f)| s - f);
                AssertionRow { name: assertion.name.clone(), success, failure, discrimination, arms }
            })
            .collect();
        Self { rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_matches_published_numbers() {
        // Newcombe 1998, Statistics in Medicine 17, 857-872, table I: 81/263, 15/148, 0/20, 1/29.
        for (hits, total, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let [got_low, got_high] = Rate { hits, total }.wilson().unwrap();
            // Four decimals are printed.
            assert!((got_low - low).abs() < 5e-5 && (got_high - high).abs() < 5e-5, "{hits}/{total}");
        }
        assert_eq!(Rate::default().wilson(), None);
    }

    #[test]
    fn discrimination_matches_newcombe() {
        // The companion paper, 873-890, table II: 56/70 - 48/80 = 0.2, method 10: 0.0524 to 0.3339.
        let rate = |hits, total| Rate { hits, total };
        let row = AssertionRow {
            name: "a".into(),
            success: rate(56, 70),
            failure: rate(48, 80),
            discrimination: None,
            arms: BTreeMap::new(),
        };
        let got = row.discriminates().unwrap();
        assert!((got.difference - 0.2).abs() < 1e-12);
        assert!(
            (got.interval[0] - 0.0524).abs() < 5e-5 && (got.interval[1] - 0.3339).abs() < 5e-5,
            "{got:?}"
        );
    }
}
