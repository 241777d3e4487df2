//! Configuration of version tests.

use serde::{Deserialize, Serialize};

use crate::error::SkillError;
use crate::version_test::discount::Discount;
use crate::version_test::spending::Spending;

/// How large a share of the rollouts a candidate gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Assignment {
    /// Its probability of being the best, clamped.
    #[default]
    Thompson,
    /// The same as every other arm.
    Uniform,
}

/// How rollouts are drawn given the shares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// Every group splits as the shares say, up to rounding, and holds both arms.
    #[default]
    Stratified,
    /// Every rollout draws alone, as in the published implementation.
    Independent,
}

/// How a test is decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Compare the arms inside each group (Cochran-Mantel-Haenszel) at a one-sided level.
    #[default]
    Stratified,
    /// Accept if the candidate's posterior mean exceeds the incumbent's; a tie rejects.
    Paper,
    /// Accept without a test.
    AutoAccept,
}

/// Configuration of version tests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct VersionTestConfig {
    /// Shares of the arms.
    pub assignment: Assignment,
    /// How rollouts are drawn given the shares.
    pub sampling: Sampling,
    /// How a test is decided.
    pub rule: Rule,
    /// One-sided level of the stratified rule, in (0, 0.5). With several candidates it is divided among them.
    pub level: f64,
    /// Steps before a decision is due, at least 1. Early stops may come before.
    pub min_steps: u32,
    /// Episodes, of all arms together, before any decision or early stop.
    pub min_episodes: u64,
    /// Step at which the stratified rule with early stops decides at the latest; `min_steps` if null.
    pub max_steps: Option<u32>,
    /// Lower bound of a candidate's share in a test of two arms, in (0, 0.5].
    pub p_min: f64,
    /// Upper bound of a candidate's share, in [0.5, 1).
    pub p_max: f64,
    /// How old evidence fades as the policy drifts.
    pub discount: Discount,
    /// Stratified rule: look after every step and stop when the evidence suffices; the level still holds.
    pub early_stop: bool,
    /// First step after which an early stop may come, at least 1.
    pub first_look: u32,
    /// How the level is spent over the looks.
    pub spending: Spending,
    /// Stop early and reject once the chance of success, if the trend goes on, is below this; accept a version that only
    /// deletes once its chance of failure is. 0 never does. In [0, 0.5).
    pub futility: f64,
    /// Steps without a test after a rejected version, so that rollouts are spent on the best bank known; each further
    /// rejection in a row doubles them, up to 16 times as many. 0: none. At most 1,000,000.
    pub rest_steps: u64,
    /// A negative control: the outcomes of each group are dealt anew among its rollouts before they are counted, so that no
    /// version can be better than another ([`super::control::deal_anew`]). The policy still learns from the true ones.
    pub shuffle_outcomes: bool,
}

impl Default for VersionTestConfig {
    fn default() -> Self {
        Self {
            assignment: Assignment::Thompson,
            sampling: Sampling::Stratified,
            rule: Rule::Stratified,
            level: 0.10,
            min_steps: 5,
            min_episodes: 50,
            max_steps: None,
            p_min: 0.15,
            p_max: 0.85,
            discount: Discount::Dynamic,
            early_stop: true,
            first_look: 2,
            spending: Spending::ObrienFleming,
            futility: 0.05,
            rest_steps: 2,
            shuffle_outcomes: false,
        }
    }
}

impl VersionTestConfig {
    /// The published procedure: independent draws, posterior means, no early stop, no rest.
    #[must_use]
    pub fn paper() -> Self {
        Self {
            sampling: Sampling::Independent,
            rule: Rule::Paper,
            early_stop: false,
            rest_steps: 0,
            ..Self::default()
        }
    }

    /// Step at which all of the level is spent.
    #[must_use]
    pub fn horizon(&self) -> u32 {
        self.max_steps.unwrap_or(self.min_steps)
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`SkillError::Config`] with the key, its value and the range.
    pub fn validate(&self) -> Result<(), SkillError> {
        let check = |ok: bool, key: &'static str, value: String, expected: &'static str| {
            if ok { Ok(()) } else { Err(SkillError::Config { key, value, expected }) }
        };
        check(
            self.level > 0.0 && self.level < 0.5,
            "version_test.level",
            self.level.to_string(),
            "in (0, 0.5)",
        )?;
        check(self.min_steps >= 1, "version_test.min_steps", self.min_steps.to_string(), "at least 1")?;
        check(self.first_look >= 1, "version_test.first_look", self.first_look.to_string(), "at least 1")?;
        check(
            self.horizon() >= self.min_steps,
            "version_test.max_steps",
            self.horizon().to_string(),
            "at least version_test.min_steps",
        )?;
        check(
            self.p_min > 0.0 && self.p_min <= 0.5,
            "version_test.p_min",
            self.p_min.to_string(),
            "in (0, 0.5]",
        )?;
        check(
            self.p_max >= 0.5 && self.p_max < 1.0,
            "version_test.p_max",
            self.p_max.to_string(),
            "in [0.5, 1)",
        )?;
        check(
            self.rest_steps <= 1_000_000,
            "version_test.rest_steps",
            self.rest_steps.to_string(),
            "at most 1000000",
        )?;
        check(
            (0.0..0.5).contains(&self.futility),
            "version_test.futility",
            self.futility.to_string(),
            "in [0, 0.5)",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_and_values_out_of_range_are_refused() {
        assert!(serde_json::from_str::<VersionTestConfig>(r#"{"levle": 0.1}"#).is_err());
        let config: VersionTestConfig = serde_json::from_str(r#"{"level": 0.7}"#).unwrap();
        assert_eq!(
            config.validate().unwrap_err().to_string(),
            "`version_test.level` = 0.7, expected in (0, 0.5)"
        );
        let config = VersionTestConfig { max_steps: Some(3), ..VersionTestConfig::default() };
        assert!(config.validate().is_err());
        assert!(
            VersionTestConfig::default().validate().is_ok() && VersionTestConfig::paper().validate().is_ok()
        );
    }
}
