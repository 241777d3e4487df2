//! The gate: does a trigger fire where it should, and does the text fit?

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bank::Operation;
use crate::creator::artefacts::VerifyReport;
use crate::episode::{Rate, SkillEpisode};
use crate::error::SkillError;
use crate::skill::{SkillContent, SkillLimits};
use crate::trigger::Trigger;

/// A trigger that fires on this share of all turns might as well be general.
const NEARLY_ALWAYS: f64 = 0.9;

/// Which episodes must see the skill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum VerifyScope {
    /// Those of at least one task family.
    #[default]
    Families,
    /// All of them, as in the published implementation.
    All,
}

/// Thresholds of the gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct VerifyConfig {
    /// Where `min_rate` must be reached.
    pub scope: VerifyScope,
    /// Share of episodes in scope in which the trigger fires, 0..=1.
    pub min_rate: f64,
    /// Share of all episodes in which it fires, 0..=1.
    pub min_overall: f64,
}

impl Default for VerifyConfig {
    fn default() -> Self {
        Self { scope: VerifyScope::Families, min_rate: 0.5, min_overall: 0.05 }
    }
}

impl VerifyConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`SkillError::Config`].
    pub fn validate(&self) -> Result<(), SkillError> {
        for (key, value) in [("verify.min_rate", self.min_rate), ("verify.min_overall", self.min_overall)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(SkillError::Config { key, value: value.to_string(), expected: "in 0..=1" });
            }
        }
        Ok(())
    }
}

/// Whether a trigger fires on some turn of an episode. The last action has no turn after it and cannot fire anything.
#[must_use]
pub fn fires_in(trigger: &Trigger, played: &SkillEpisode) -> bool {
    played.turns().any(|(turn_idx, previous, _)| trigger.fires(turn_idx, previous))
}

/// Measures one skill.
#[must_use]
pub fn verify(
    content: &SkillContent,
    episodes: &[SkillEpisode],
    config: &VerifyConfig,
    limits: &SkillLimits,
) -> VerifyReport {
    let mut fired = Rate::default();
    let mut families: BTreeMap<String, Rate> = BTreeMap::new();
    let mut turns = Rate::default();
    for played in episodes {
        played
            .turns()
            .for_each(|(turn_idx, previous, _)| turns.add(content.trigger.fires(turn_idx, previous)));
        let hit = fires_in(&content.trigger, played);
        fired.add(hit);
        families.entry(played.episode.task.family.clone()).or_default().add(hit);
    }
    let mut problems = Vec::new();
    if let Err(error) = limits.check(content) {
        problems.push(error.to_string());
    }
    let share = |rate: &Rate| rate.value().unwrap_or(0.0);
    if share(&fired) < config.min_overall {
        problems.push(format!("fires in {} of {} episodes, too few", fired.hits, fired.total));
    }
    let reached = match config.scope {
        VerifyScope::All => share(&fired) >= config.min_rate,
        VerifyScope::Families => families.values().any(|rate| share(rate) >= config.min_rate),
    };
    if !reached {
        let best = families.iter().max_by(|a, b| share(a.1).total_cmp(&share(b.1)));
        let best = best.map_or_else(String::new, |(name, rate)| {
            format!("; most in `{name}`, {} of {}", rate.hits, rate.total)
        });
        problems.push(format!(
            "fires in {} of {} episodes{best}; expected a share of {}",
            fired.hits, fired.total, config.min_rate
        ));
    }
    let mut notes = Vec::new();
    if content.trigger != Trigger::Always && share(&turns) >= NEARLY_ALWAYS {
        notes.push(format!(
            "fires on {} of {} turns: as good as general, which costs less context",
            turns.hits, turns.total
        ));
    }
    VerifyReport { skill: content.name.clone(), fired, families, turns, problems, notes }
}

/// Measures every new or changed skill of a bundle.
///
/// # Errors
/// [`SkillError::Refused`] for the first that does not pass.
pub fn gate(
    operations: &[Operation],
    episodes: &[SkillEpisode],
    config: &VerifyConfig,
    limits: &SkillLimits,
) -> Result<Vec<VerifyReport>, SkillError> {
    let reports: Vec<VerifyReport> = operations
        .iter()
        .filter_map(Operation::content)
        .map(|content| verify(content, episodes, config, limits))
        .collect();
    match reports.iter().find(|report| !report.problems.is_empty()) {
        Some(bad) => Err(SkillError::Refused { skill: bad.skill.clone(), reason: bad.problems.join("; ") }),
        None => Ok(reports),
    }
}

#[cfg(test)]
mod tests {
    use reskill_envs::Outcome;

    use super::*;

    #[test]
    fn a_trigger_that_fires_on_nearly_all_turns_is_reported() {
        let actions: Vec<&str> = ["go to bed 1", "open drawer 2"].repeat(20);
        let episodes = [SkillEpisode::from_actions("t", "f", "g", &actions, Outcome::Success)];
        for (pattern, n_notes) in [("o", 1), ("^go", 0)] {
            let content = SkillContent {
                name: "a".into(),
                when_to_use: "Now.".into(),
                action: "Look.".into(),
                example: None,
                trigger: Trigger::after_action(pattern).unwrap(),
                guidance: None,
            };
            let report = verify(&content, &episodes, &VerifyConfig::default(), &SkillLimits::default());
            assert_eq!((report.problems.len(), report.notes.len()), (0, n_notes), "{report:?}");
        }
    }
}
