//! Thresholds of the statistical creator.

use serde::{Deserialize, Serialize};

use crate::error::SkillError;

/// Thresholds of the statistical creator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct OfflineConfig {
    /// Smallest standardised score of a habit. Low on purpose: the version test decides, the creator only suggests.
    pub min_z: f64,
    /// Smallest estimated gain in success, 0..1.
    pub min_gain: f64,
    /// Fewest episodes in which the habit could show.
    pub min_episodes: usize,
    /// A verb played on more than this share of its chances in failed episodes needs no reminder, in (0, 1].
    pub max_share: f64,
    /// A kind of place joins a trigger if the verb could be played after at least this share of its visits, in [0, 1].
    pub min_admissible: f64,
    /// Whether to author `do not <verb>` too.
    pub negative: bool,
    /// Most likely that chance alone separates the outcomes as well as the best of *all* candidates does, in (0, 1]: the
    /// outcomes are shuffled within tasks and families to find out. 1: no such test, `min_z` and `min_gain` alone decide,
    /// and the version test has to sort out more candidates.
    pub level: f64,
    /// Whether to look for causes that need no situation too: something missing, out of order, repeated, harmful or too
    /// early in an episode. Their skills are sentences (``First play `check`, then `submit`.``), not `next <verb>`.
    pub episode_causes: bool,
    /// Operations of one proposal, 1..=3.
    pub max_operations: usize,
    /// Steps before a rejected skill is tried again; every further rejection doubles them.
    pub cooldown_steps: u64,
    /// Steps a skill must have lived before it may be deleted.
    pub prune_age: u64,
    /// A skill that fires in a smaller share of episodes is deleted, 0..1.
    pub prune_fire_rate: f64,
}

impl Default for OfflineConfig {
    fn default() -> Self {
        Self {
            min_z: 1.0,
            min_gain: 0.01,
            min_episodes: 20,
            max_share: 0.85,
            min_admissible: 0.25,
            negative: true,
            level: 0.02,
            episode_causes: true,
            max_operations: 1,
            cooldown_steps: 30,
            prune_age: 30,
            prune_fire_rate: 0.02,
        }
    }
}

impl OfflineConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`SkillError::Config`].
    pub fn validate(&self) -> Result<(), SkillError> {
        let check = |ok: bool, key: &'static str, value: String, expected: &'static str| {
            if ok { Ok(()) } else { Err(SkillError::Config { key, value, expected }) }
        };
        check(
            self.min_z.is_finite() && self.min_z >= 0.0,
            "creator.offline.min_z",
            self.min_z.to_string(),
            "at least 0",
        )?;
        check(
            (0.0..1.0).contains(&self.min_gain),
            "creator.offline.min_gain",
            self.min_gain.to_string(),
            "in [0, 1)",
        )?;
        check(
            self.max_share > 0.0 && self.max_share <= 1.0,
            "creator.offline.max_share",
            self.max_share.to_string(),
            "in (0, 1]",
        )?;
        check(
            (0.0..=1.0).contains(&self.min_admissible),
            "creator.offline.min_admissible",
            self.min_admissible.to_string(),
            "in [0, 1]",
        )?;
        check(self.level > 0.0 && self.level <= 1.0, "creator.level", self.level.to_string(), "in (0, 1]")?;
        check(
            (1..=3).contains(&self.max_operations),
            "creator.offline.max_operations",
            self.max_operations.to_string(),
            "1 to 3",
        )?;
        check(
            (0.0..1.0).contains(&self.prune_fire_rate),
            "creator.offline.prune_fire_rate",
            self.prune_fire_rate.to_string(),
            "in [0, 1)",
        )
    }
}
