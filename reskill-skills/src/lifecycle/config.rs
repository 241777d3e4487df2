//! Configuration of the whole crate, as a trainer nests it.

use serde::{Deserialize, Serialize};

use crate::creator::config::CreatorConfig;
use crate::creator::verify::VerifyConfig;
use crate::error::SkillError;
use crate::reservoir::ReservoirConfig;
use crate::skill::SkillLimits;
use crate::version_test::VersionTestConfig;

/// What happens to the bank during training.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SkillMode {
    /// Skills are created and tested.
    #[default]
    Evolve,
    /// The bank stays as it is.
    Static,
    /// No skills at all.
    Off,
}

/// Which triggers new skills may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TriggerScope {
    /// Those their author gives them.
    #[default]
    All,
    /// Every new or changed skill is shown on every turn: an ablation.
    General,
}

/// Configuration of a [`crate::Lifecycle`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LifecycleConfig {
    /// What happens to the bank.
    pub mode: SkillMode,
    /// Most active skills, at least 1.
    pub max_skills: usize,
    /// Which triggers new skills may have.
    pub triggers: TriggerScope,
    /// Whether assertions are kept and reported. Without them creators have nothing but the episodes: an ablation.
    pub assertions: bool,
    /// The experience the creator reads.
    pub reservoir: ReservoirConfig,
    /// How candidates are tested.
    pub version_test: VersionTestConfig,
    /// Who writes the skills.
    pub creator: CreatorConfig,
    /// The gate of new skills.
    pub verify: VerifyConfig,
}

impl Default for LifecycleConfig {
    fn default() -> Self {
        Self {
            mode: SkillMode::default(),
            max_skills: SkillLimits::default().max_skills,
            triggers: TriggerScope::default(),
            assertions: true,
            reservoir: ReservoirConfig::default(),
            version_test: VersionTestConfig::default(),
            creator: CreatorConfig::default(),
            verify: VerifyConfig::default(),
        }
    }
}

impl LifecycleConfig {
    /// The limits on skills.
    #[must_use]
    pub fn limits(&self) -> SkillLimits {
        SkillLimits { max_skills: self.max_skills, ..SkillLimits::default() }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`SkillError::Config`] with the key, its value and the range.
    pub fn validate(&self) -> Result<(), SkillError> {
        if self.max_skills == 0 {
            return Err(SkillError::Config { key: "max_skills", value: "0".into(), expected: "at least 1" });
        }
        self.reservoir.validate()?;
        self.version_test.validate()?;
        self.creator.validate()?;
        self.verify.validate()
    }
}
