//! What each stage of a creator hands on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::assertion::{AssertionEdit, AssertionReport};
use crate::bank::Operation;
use crate::episode::Rate;
use crate::guidance::Guidance;
use crate::skill::SkillId;
use crate::trigger::Trigger;

/// The numbers behind an insight of the statistical creator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// When the guidance would be shown.
    pub trigger: Trigger,
    /// What it would ask for.
    pub guidance: Guidance,
    /// Turns on which it could be followed, and on how many its verb was played.
    pub played: Rate,
    /// Episodes with such a turn.
    pub episodes: usize,
    /// Share of all episodes with such a turn.
    pub coverage: f64,
    /// Tasks with such episodes of both outcomes: the comparison within tasks rests on them.
    pub mixed_tasks: usize,
    /// Mean share of these turns on which the verb was played, in successful episodes.
    pub share_success: f64,
    /// The same in failed episodes.
    pub share_failure: f64,
    /// Difference in success between always and never playing the verb there, shrunk towards 0.
    pub difference: f64,
    /// Log odds ratio of success, played mostly against mostly not, with 1/2 added to each cell.
    pub log_odds: f64,
    /// Standardised score of the association.
    pub z: f64,
    /// What heeding would gain: coverage x share of turns not heeded (but no more than two standard deviations of the
    /// share, so that nothing is extrapolated far) x difference.
    pub gain: f64,
}

/// One finding about why episodes succeed or fail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Insight {
    /// The finding in words.
    pub finding: String,
    /// How episodes fail, if the insight is about that.
    pub failure_mode: Option<String>,
    /// Actions of a failing episode around the point.
    pub failing_actions: Vec<String>,
    /// Actions of a succeeding one.
    pub succeeding_actions: Vec<String>,
    /// How sure the author is, 0..=1.
    pub confidence: f64,
    /// The numbers, if there are any.
    pub evidence: Option<Evidence>,
}

/// Insights that say the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// What they say.
    pub name: String,
    /// Positions in the list of insights.
    pub insights: Vec<usize>,
    /// The position of the one that stands for all.
    pub representative: usize,
}

/// What is wrong, as numbers and clusters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// One or two sentences with the main numbers.
    pub summary: String,
    /// Clusters, the most telling first.
    pub clusters: Vec<Cluster>,
    /// Changes of the assertions.
    pub assertion_edits: Vec<AssertionEdit>,
}

/// What kind of change is advised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A new skill.
    Add,
    /// A skill should say something else, or at other times.
    Modify,
    /// A skill should go.
    Delete,
}

/// Advice to the author of the texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recommendation {
    /// The kind of change.
    pub change: Change,
    /// The skill to change or delete.
    pub skill: Option<SkillId>,
    /// What to do.
    pub what: String,
    /// Why.
    pub why: String,
}

/// What the gate measured for one new or changed skill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// The skill's name.
    pub skill: String,
    /// Episodes in which the trigger fires, of all.
    pub fired: Rate,
    /// The same by task family.
    pub families: BTreeMap<String, Rate>,
    /// Turns on which it fires, of all.
    #[serde(default)]
    pub turns: Rate,
    /// Why it is refused; empty if it passes.
    pub problems: Vec<String>,
    /// What is odd about it, but no reason to refuse it.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// What the stages produced on the way to a proposal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Artefacts {
    /// Contrast.
    pub insights: Vec<Insight>,
    /// Grade.
    pub assertions: AssertionReport,
    /// Diagnose.
    pub diagnosis: Diagnosis,
    /// Recommend.
    pub recommendations: Vec<Recommendation>,
    /// Verify.
    pub verified: Vec<VerifyReport>,
}

/// A candidate: operations on the live bank, and how they came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// The bundle.
    pub operations: Vec<Operation>,
    /// Why, in a sentence.
    pub rationale: String,
    /// The stages.
    pub artefacts: Artefacts,
}
