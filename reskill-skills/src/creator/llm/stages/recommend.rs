//! Recommend: which skills to add, change or delete, and why.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bank::SkillBank;
use crate::creator::artefacts::{Change, Recommendation};
use crate::skill::{SkillId, SkillLimits};

/// What the model is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecommendInput {
    /// Successes by kind of task.
    pub outcomes: String,
    /// The diagnosis.
    pub summary: String,
    /// Clusters with their representatives.
    pub clusters: String,
    /// Assertions with pass rates, after the edits.
    pub assertions: String,
    /// The bank with trigger rates and ages.
    pub bank: String,
    /// The last versions and what became of them.
    pub versions: String,
    /// The commands of the environment.
    pub vocabulary: String,
    /// How often each was played.
    pub actions: String,
    /// Whether the bank has room.
    pub room: String,
    /// Most changes of a bundle.
    pub max_operations: String,
    /// The user's remark.
    pub note: String,
    /// Schema of the answer.
    pub schema: String,
}

/// What the model answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecommendOutput {
    /// The changes.
    #[schemars(length(min = 1, max = 3))]
    pub recommendations: Vec<Advice>,
}

/// Kinds of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdvisedChange {
    /// A new skill.
    Add,
    /// Another text or trigger.
    Modify,
    /// The skill goes.
    Delete,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Advice {
    /// The kind of change.
    pub change: AdvisedChange,
    /// Id of the skill to modify or delete.
    #[schemars(length(max = 80))]
    pub skill: Option<String>,
    /// What to do.
    #[schemars(length(min = 1, max = 800))]
    pub what: String,
    /// The evidence.
    #[schemars(length(min = 1, max = 800))]
    pub why: String,
    /// Names of the clusters it addresses.
    #[schemars(length(max = 8), inner(length(max = 200)))]
    pub clusters: Vec<String>,
}

impl RecommendOutput {
    /// The recommendations that all creators share, deletions first, so that they make room.
    ///
    /// # Errors
    /// The first thing that does not fit the bank or the limits.
    pub fn to_recommendations(
        &self,
        bank: &SkillBank,
        limits: &SkillLimits,
    ) -> Result<Vec<(Recommendation, &Advice)>, String> {
        let n = self.recommendations.len();
        if n == 0 || n > limits.max_operations {
            return Err(format!(
                "`recommendations` has {n} entries, expected 1 to {}",
                limits.max_operations
            ));
        }
        let mut recommendations = Vec::new();
        let mut touched: Vec<SkillId> = Vec::new();
        let mut n_active = bank.n_active();
        for (index, advice) in self.recommendations.iter().enumerate() {
            let at = format!("`recommendations[{index}].skill`");
            let change = match advice.change {
                AdvisedChange::Add => Change::Add,
                AdvisedChange::Modify => Change::Modify,
                AdvisedChange::Delete => Change::Delete,
            };
            let skill = match (change, advice.skill.as_deref().map(str::trim)) {
                (Change::Add, _) => None,
                (_, None | Some("")) => return Err(format!("{at} is null where `change` is not `add`")),
                (_, Some(named)) => {
                    let found =
                        bank.skills().iter().find(|skill| skill.id.0 == named || skill.name() == named);
                    let found = found.ok_or_else(|| {
                        let ids: Vec<&str> = bank.skills().iter().map(|skill| skill.id.0.as_str()).collect();
                        let named: String = named.chars().take(80).collect();
                        format!("{at}: there is no skill `{named}`, expected one of [{}]", ids.join(", "))
                    })?;
                    if touched.contains(&found.id) {
                        return Err(format!("{at}: two changes of one skill"));
                    }
                    touched.push(found.id.clone());
                    Some(found.id.clone())
                }
            };
            match change {
                Change::Add => n_active += 1,
                Change::Modify => {}
                Change::Delete => n_active = n_active.saturating_sub(1),
            }
            let (what, why) = (advice.what.clone(), advice.why.clone());
            recommendations.push((Recommendation { change, skill, what, why }, advice));
        }
        if n_active > limits.max_skills {
            return Err(format!(
                "the bank would have {n_active} active skills, at most {} are allowed: delete or modify one instead",
                limits.max_skills
            ));
        }
        recommendations.sort_by_key(|(recommendation, _)| recommendation.change != Change::Delete);
        Ok(recommendations)
    }
}
