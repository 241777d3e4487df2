//! Pass rates of assertions, split by outcome.

use serde::{Deserialize, Serialize};

use crate::assertion::AssertionSet;
use crate::episode::{Rate, SkillEpisode};

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
                for played in episodes {
                    let passed = assertion.check.eval(&played.episode);
                    if played.episode.is_success() { success.add(passed) } else { failure.add(passed) }
                }
                let discrimination = success.value().zip(failure.value()).map(|(s, f)| s - f);
                AssertionRow { name: assertion.name.clone(), success, failure, discrimination }
            })
            .collect();
        Self { rows }
    }
}
