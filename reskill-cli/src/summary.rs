//! `summary.json`: the result of a run, for other programs.

use std::collections::BTreeMap;

use reskill_skills::version_test::{Claim, Reason};
use reskill_skills::{Decision, HistoryKind, HistoryRecord, Operation, Verdict};
use serde::{Deserialize, Serialize};

use crate::creators::CreatorSummary;
use crate::evaluate::Evaluation;
use crate::validation::Adaptation;

/// The result of a run. Rates are in 0..=1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Success on held-out games like the training games.
    pub seen: SplitSummary,
    /// Success on held-out games in places never trained on.
    pub unseen: SplitSummary,
    /// Every version of the bank that was tested.
    pub versions: Vec<VersionSummary>,
    /// Wall-clock seconds, added up if the run was interrupted.
    pub seconds: f64,
    /// Largest resident memory, in bytes.
    pub peak_rss_bytes: u64,
    /// Seed.
    pub seed: u64,
    /// Training steps done.
    pub steps: u64,
    /// Names of the skills at the end.
    pub skills: Vec<String>,
    /// What a language model as creator did and cost; absent for the statistical creator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator: Option<CreatorSummary>,
    /// Wall-clock seconds by phase.
    pub seconds_by_phase: BTreeMap<String, f64>,
    /// Tokens through the network by phase.
    pub tokens_by_phase: BTreeMap<String, u64>,
    /// The evaluations behind the numbers.
    pub evaluations: BTreeMap<String, Evaluation>,
    /// What adaptation was worth; absent where the policy was trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptation: Option<Adaptation>,
}

/// Success on one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitSummary {
    /// After the warm start, without skills; with frozen weights: before the first step, with the bank that the run began
    /// with.
    pub warm_start: f64,
    /// After training, with the bank.
    pub r#final: f64,
    /// After training, without the bank; null where there is none.
    pub final_bank_off: Option<f64>,
    /// Games each of these is a mean over.
    pub n_games: u64,
}

/// One version test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionSummary {
    /// Step of the decision.
    pub step: u64,
    /// `accept` or `reject`.
    pub verdict: Verdict,
    /// The rule that decided.
    pub rule: String,
    /// What the version changed, in words.
    pub change: String,
    /// Episodes by arm, the incumbent first.
    pub episodes: Vec<u64>,
    /// Success rates by arm.
    pub success: Vec<f64>,
    /// Posterior probability that the new version is better.
    pub p_new_better: f64,
    /// Standardised difference inside the groups, where the rule computes one.
    pub z: Option<f64>,
}

/// The version tests of a history.
#[must_use]
pub fn versions(history: &[HistoryRecord]) -> Vec<VersionSummary> {
    let decided = |record: &&HistoryRecord| {
        let kinds = [HistoryKind::Accepted, HistoryKind::Pruned, HistoryKind::Rejected];
        kinds.contains(&record.kind) && record.decision.is_some()
    };
    history.iter().filter(decided).filter_map(version).collect()
}

fn version(record: &HistoryRecord) -> Option<VersionSummary> {
    let decision: &Decision = record.decision.as_ref()?;
    let rule = serde_json::to_value(decision.rule).ok()?;
    Some(VersionSummary {
        step: record.step,
        verdict: verdict(record),
        rule: rule.as_str().unwrap_or_default().to_string(),
        change: change(record),
        episodes: decision.arms.iter().map(|arm| arm.episodes).collect(),
        success: decision
            .arms
            .iter()
            .map(|arm| if arm.episodes == 0 { 0.0 } else { arm.successes as f64 / arm.episodes as f64 })
            .collect(),
        p_new_better: decision.p_new_better,
        z: decision.z,
    })
}

/// What became of the candidate that a record is about; with several at once only the one decided on is accepted.
#[must_use]
pub fn verdict(record: &HistoryRecord) -> Verdict {
    if record.kind == HistoryKind::Rejected { Verdict::Reject } else { Verdict::Accept }
}

/// What a version changes, in words.
#[must_use]
pub fn change(record: &HistoryRecord) -> String {
    record.operations.iter().map(describe).collect::<Vec<_>>().join("; ")
}

/// An operation in a few words.
#[must_use]
pub fn describe(operation: &Operation) -> String {
    match operation {
        Operation::Add(content) => {
            format!("add {} ({}: \"{}\")", content.name, content.trigger, content.action)
        }
        Operation::Modify { id, content } => {
            format!("modify {id} ({}: \"{}\")", content.trigger, content.action)
        }
        Operation::Delete { id } => format!("delete {id}"),
    }
}

/// Why a test ended as it did, in a few words.
#[must_use]
pub fn why(decision: &Decision) -> &'static str {
    match (decision.reason, decision.claim) {
        (Reason::EarlyBound, Claim::Better) => "stopped early: z passed the bound",
        (Reason::EarlyBound, Claim::NotWorse) => "stopped early: shown to be worse",
        (Reason::Futility, Claim::Better) => "stopped early: on its trend, z would not reach the bound",
        (Reason::Futility, Claim::NotWorse) if decision.verdict == Verdict::Accept => {
            "stopped early: on its trend, it does at least as well"
        }
        (Reason::Futility, Claim::NotWorse) => "stopped early: on its trend, it does worse",
        (Reason::FinalBound, Claim::Better) => "z passed the bound at the last step",
        (Reason::FinalBound, Claim::NotWorse) => "shown to be worse at the last step",
        (Reason::BelowBound, Claim::Better) => "z did not pass the bound by the last step",
        (Reason::BelowBound, Claim::NotWorse) if decision.verdict == Verdict::Accept => {
            "did at least as well by the last step"
        }
        (Reason::BelowBound, Claim::NotWorse) => "did worse by the last step",
        (Reason::NoInformation, _) => "no group held both versions and both outcomes",
        (Reason::HigherMean, _) => "the new posterior mean is the higher one",
        (Reason::NotHigherMean, _) => "the new posterior mean is not the higher one",
        (Reason::AutoAccept, _) => "accepted without a test",
    }
}
