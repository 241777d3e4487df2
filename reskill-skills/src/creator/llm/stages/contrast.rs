//! Contrast: what made the difference between the episodes of one task.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::creator::artefacts::Insight;

/// What the model is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContrastInput {
    /// Kind of task.
    pub family: String,
    /// The goal in words.
    pub goal: String,
    /// The bank.
    pub skills: String,
    /// The episodes as text.
    pub episodes: String,
    /// The commands of the environment.
    pub vocabulary: String,
    /// Schema of the answer.
    pub schema: String,
}

/// What the model finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContrastInsight {
    /// The finding, general enough for other tasks of the kind.
    #[schemars(length(min = 1, max = 800))]
    pub finding: String,
    /// How episodes fail, as a label.
    #[schemars(length(max = 200))]
    pub failure_mode: Option<String>,
    /// Commands of a failing episode around the point.
    #[schemars(length(max = 8), inner(length(max = 300)))]
    pub failing_actions: Vec<String>,
    /// Commands of a succeeding one.
    #[schemars(length(max = 8), inner(length(max = 300)))]
    pub succeeding_actions: Vec<String>,
    /// Where the failure began.
    #[schemars(length(max = 400))]
    pub failure_point: Option<String>,
    /// Patterns of the command after which advice is needed.
    #[schemars(length(max = 4), inner(length(max = 300)))]
    pub trigger_patterns: Vec<String>,
    /// What the skills that were shown did.
    #[schemars(length(max = 400))]
    pub skill_effect: Option<String>,
    /// How the versions of the bank differ.
    #[schemars(length(max = 400))]
    pub arm_delta: Option<String>,
    /// 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub confidence: f64,
}

impl ContrastInsight {
    /// The part of it that all creators share.
    #[must_use]
    pub fn to_insight(&self) -> Insight {
        Insight {
            finding: self.finding.clone(),
            failure_mode: self.failure_mode.clone(),
            failing_actions: self.failing_actions.clone(),
            succeeding_actions: self.succeeding_actions.clone(),
            confidence: self.confidence,
            evidence: None,
        }
    }

    /// The finding for another prompt, in a few lines.
    #[must_use]
    pub fn brief(&self, index: usize, family: &str) -> String {
        let mut text = format!("{index}. [{family}] {}", self.finding);
        let optional = [
            ("fails by", self.failure_mode.as_deref()),
            ("at", self.failure_point.as_deref()),
            ("skills", self.skill_effect.as_deref()),
            ("versions", self.arm_delta.as_deref()),
        ];
        for (label, value) in optional {
            if let Some(value) = value {
                text.push_str(&format!("\n   {label}: {value}"));
            }
        }
        for (label, list) in [
            ("failing", &self.failing_actions),
            ("succeeding", &self.succeeding_actions),
            ("triggers", &self.trigger_patterns),
        ] {
            if !list.is_empty() {
                text.push_str(&format!("\n   {label}: {}", list.join(" | ")));
            }
        }
        text + &format!("\n   confidence: {:.2}", self.confidence)
    }
}
