//! The record of a decision: everything that led to it.

use serde::{Deserialize, Serialize};

use crate::version_test::arms::{Arm, StepCounts};
use crate::version_test::config::Rule;
use crate::version_test::rule::Claim;
use crate::version_test::score::Score;

/// What becomes of the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It becomes the incumbent.
    Accept,
    /// It goes.
    Reject,
}

/// Why a test ended as it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The statistic crossed the bound before the end.
    EarlyBound,
    /// If the trend goes on, the end is all but certain: the bound is out of reach, or a deletion stays at least as good.
    Futility,
    /// The statistic is beyond the bound at the end.
    FinalBound,
    /// The statistic is not beyond the bound at the end.
    BelowBound,
    /// No group held both arms and both outcomes.
    NoInformation,
    /// The candidate's posterior mean is the higher one.
    HigherMean,
    /// The candidate's posterior mean is not the higher one.
    NotHigherMean,
    /// The rule accepts without a test.
    AutoAccept,
}

/// One arm at the time of a decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmSummary {
    /// The arm.
    pub arm: Arm,
    /// Episodes it played in this test.
    pub episodes: u64,
    /// Successful ones.
    pub successes: u64,
    /// Posterior.
    pub alpha: f64,
    /// Posterior.
    pub beta: f64,
    /// Posterior mean.
    pub mean: f64,
}

/// What the groups say about one candidate against the incumbent, at the time of a decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The candidate.
    pub arm: Arm,
    /// Observed minus expected successes, summed over groups, and its variance.
    pub score: Score,
    /// Standardised score, positive if the candidate did better; `None` if no group is informative.
    pub z: Option<f64>,
    /// One-sided p-value of this score alone (`P(Z > z)` for the claim "better", `P(Z < z)` for "not worse"): as if it
    /// were the only look and the only candidate.
    pub p_value: Option<f64>,
    /// Stratified rule: the bound on |z| at this look.
    pub bound: Option<f64>,
    /// Posterior probability that it is better than the incumbent.
    pub p_better: f64,
    /// Posterior probability that it is the best arm.
    pub p_best: f64,
}

/// A decision and its evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Training step.
    pub step: u64,
    /// Accept or reject.
    pub verdict: Verdict,
    /// The candidate that was accepted, or that came closest.
    pub candidate: Arm,
    /// The rule that decided.
    pub rule: Rule,
    /// What had to be shown.
    pub claim: Claim,
    /// Why.
    pub reason: Reason,
    /// Steps the test took.
    pub n_steps: usize,
    /// Episodes of all arms.
    pub n_episodes: u64,
    /// Per arm, the incumbent first.
    pub arms: Vec<ArmSummary>,
    /// Posterior probability that the candidate is better than the incumbent.
    pub p_new_better: f64,
    /// Stratified rule: standardised score, positive if the candidate did better.
    pub z: Option<f64>,
    /// Stratified rule: one-sided level of the whole test for each candidate.
    pub level: Option<f64>,
    /// Stratified rule: the bound on |z| at this look.
    pub bound: Option<f64>,
    /// Stratified rule: level spent up to this look, this one included.
    #[serde(default)]
    pub spent: Option<f64>,
    /// Per candidate.
    #[serde(default)]
    pub evidence: Vec<Evidence>,
    /// Raw counts by step and group.
    pub counts: Vec<StepCounts>,
}
