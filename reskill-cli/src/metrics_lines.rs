//! The lines of `metrics.jsonl`, as far as report and live view use them. A number that was not finite stands there as null.

use std::collections::BTreeMap;

use reskill_skills::{PosteriorSummary, Rate, SkillId};
use serde::Deserialize;

use crate::creators::CreatorSummary;
use crate::episodes::Use;
use crate::evaluate::Evaluation;
use crate::failure_modes::FailureMode;

/// One line.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum MetricsLine {
    /// A mini-batch of the warm start.
    WarmStart(WarmStartLine),
    /// A training step.
    Step(Box<StepLine>),
    /// An evaluation.
    Evaluation(EvaluationLine),
    /// Something that the report does not show.
    #[serde(other)]
    Other,
}

/// A mini-batch of the warm start.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WarmStartLine {
    /// Number, from 1.
    pub(crate) batch: u64,
    /// What it did.
    pub(crate) update: UpdateLine,
    /// Clock.
    pub(crate) time: Seconds,
}

/// One number of a step.
pub(crate) type OfStep = fn(&StepLine) -> Option<f64>;

/// A training step.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StepLine {
    /// Number, from 1.
    pub(crate) step: u64,
    /// Share of the episodes that succeeded.
    pub(crate) success: Option<f64>,
    /// Return of an episode, mean.
    pub(crate) mean_return: Option<f64>,
    /// Episodes, without those that the environment lost.
    pub(crate) episodes: u64,
    /// Turns of an episode, mean.
    pub(crate) mean_turns: Option<f64>,
    /// Share of turns without a valid action.
    pub(crate) invalid_fraction: Option<f64>,
    /// The policy update.
    pub(crate) update: UpdateLine,
    /// The test that was running at the end of the step.
    pub(crate) posterior: Option<PosteriorSummary>,
    /// Names of the live skills at the end of the step.
    pub(crate) bank: Vec<String>,
    /// How much each skill was used. Older records have none.
    pub(crate) shown: BTreeMap<SkillId, Use>,
    /// How many episodes failed in each way; empty in older records.
    pub(crate) failures: BTreeMap<FailureMode, u64>,
    /// Passes of each assertion.
    pub(crate) assertions: BTreeMap<String, AssertionLine>,
    /// What a language model as creator did so far.
    pub(crate) creator: Option<CreatorSummary>,
    /// Tokens of the rollouts.
    pub(crate) tokens: TokensLine,
    /// Clock.
    pub(crate) time: StepTime,
}

/// Passes of one assertion in a step.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AssertionLine {
    /// Among successes.
    pub(crate) success: Rate,
    /// Among failures.
    pub(crate) failure: Rate,
}

/// A policy update, or a mini-batch of imitation, which has fewer of these.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct UpdateLine {
    /// Loss.
    pub(crate) loss: Option<f64>,
    /// Gradient norm before clipping.
    pub(crate) grad_norm: Option<f64>,
    /// Share of tokens whose gradient the clip stopped, above.
    pub(crate) clip_fraction_high: Option<f64>,
    /// The same, below.
    pub(crate) clip_fraction_low: Option<f64>,
    /// Divergence between sampler and policy during the update.
    pub(crate) approx_kl: Option<f64>,
    /// Divergence from the reference.
    pub(crate) ref_kl: Option<f64>,
    /// Entropy, nats a token.
    pub(crate) entropy: Option<f64>,
    /// Largest difference of log-probabilities between sampler and trainer.
    pub(crate) sampler_mismatch: Option<f64>,
    /// Tokens through the network.
    pub(crate) packed_tokens: u64,
}

/// Tokens of a step's rollouts.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TokensLine {
    /// That went through the network.
    pub(crate) run: u64,
    /// That would have gone through it without prefix reuse.
    pub(crate) without_reuse: u64,
    /// That were sampled.
    pub(crate) generated: u64,
}

/// Clock of a step.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StepTime {
    /// Rollouts.
    pub(crate) rollout_seconds: f64,
    /// Policy update.
    pub(crate) update_seconds: f64,
    /// Version test and creator.
    pub(crate) skills_seconds: f64,
    /// Waiting for and working of a language model as creator, over the run so far.
    pub(crate) creator_seconds: f64,
    /// Rollout speed.
    pub(crate) rollout_tokens_per_second: Option<f64>,
    /// Update speed.
    pub(crate) update_tokens_per_second: Option<f64>,
}

/// An evaluation.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct EvaluationLine {
    /// Training steps before it.
    #[serde(default)]
    pub(crate) step: u64,
    /// `warm_start`, `during`, `final` or `final_bank_off`.
    pub(crate) phase: String,
    /// The numbers.
    pub(crate) evaluation: Evaluation,
    /// Clock.
    #[serde(default)]
    pub(crate) time: Seconds,
}

/// A clock with seconds only.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Seconds {
    /// Wall-clock seconds.
    pub(crate) seconds: f64,
}
