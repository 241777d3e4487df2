//! Arms of a test and what is counted for them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The version of the bank an episode plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// The live bank.
    Incumbent,
    /// A candidate, numbered from 0.
    Candidate(u8),
}

impl Arm {
    /// 0 for the incumbent, 1 + n for candidate n.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Arm::Incumbent => 0,
            Arm::Candidate(n) => usize::from(n) + 1,
        }
    }

    /// The inverse of [`Arm::index`]; an index beyond 256 is the last candidate.
    #[must_use]
    pub fn from_index(index: usize) -> Self {
        index.checked_sub(1).map_or(Arm::Incumbent, |n| Arm::Candidate(u8::try_from(n).unwrap_or(u8::MAX)))
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Arm::Incumbent => f.write_str("incumbent"),
            Arm::Candidate(n) => write!(f, "candidate {n}"),
        }
    }
}

/// Episodes and successes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Episodes.
    pub episodes: u64,
    /// Successful ones.
    pub successes: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, success: bool) {
        self.episodes += 1;
        self.successes += u64::from(success);
    }

    #[must_use]
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { episodes: self.episodes + other.episodes, successes: self.successes + other.successes }
    }
}

/// Counts of one group, per arm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupCounts {
    /// The group.
    pub group: u64,
    /// By [`Arm::index`].
    pub arms: Vec<Counts>,
}

/// Counts of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepCounts {
    /// The training step.
    pub step: u64,
    /// Its groups, by id.
    pub groups: Vec<GroupCounts>,
}

impl StepCounts {
    /// Totals of one arm.
    #[must_use]
    pub fn totals(&self, arm: Arm) -> Counts {
        self.groups
            .iter()
            .filter_map(|group| group.arms.get(arm.index()))
            .fold(Counts::default(), |sum, counts| sum.plus(*counts))
    }
}
