//! The lines of `metrics.jsonl`, as far as the report uses them. A number that was not finite stands there as null.

use reskill_skills::PosteriorSummary;
use serde::Deserialize;

use crate::creators::CreatorSummary;
use crate::evaluate::Evaluation;

/// One line.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum MetricsLine {
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
pub(super) struct WarmStartLine {
    /// Number, from 1.
    pub(super) batch: u64,
    /// What it did.
    pub(super) update: UpdateLine,
    /// Clock.
    pub(super) time: Seconds,
}

/// One number of a step.
pub(super) type OfStep = fn(&StepLine) -> Option<f64>;

/// A training step.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct StepLine {
    /// Number, from 1.
    pub(super) step: u64,
    /// Share of the episodes that succeeded.
    pub(super) success: Option<f64>,
    /// Turns of an episode, mean.
    pub(super) mean_turns: Option<f64>,
    /// Share of turns without a valid action.
    pub(super) invalid_fraction: Option<f64>,
    /// The policy update.
    pub(super) update: UpdateLine,
    /// The test that was running at the end of the step.
    pub(super) posterior: Option<PosteriorSummary>,
    /// What a language model as creator did so far.
    pub(super) creator: Option<CreatorSummary>,
    /// Tokens of the rollouts.
    pub(super) tokens: TokensLine,
    /// Clock.
    pub(super) time: StepTime,
}

/// A policy update, or a mini-batch of imitation, which has fewer of these.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct UpdateLine {
    /// Loss.
    pub(super) loss: Option<f64>,
    /// Gradient norm before clipping.
    pub(super) grad_norm: Option<f64>,
    /// Share of tokens whose gradient the clip stopped, above.
    pub(super) clip_fraction_high: Option<f64>,
    /// The same, below.
    pub(super) clip_fraction_low: Option<f64>,
    /// Divergence between sampler and policy during the update.
    pub(super) approx_kl: Option<f64>,
    /// Divergence from the reference.
    pub(super) ref_kl: Option<f64>,
    /// Entropy, nats a token.
    pub(super) entropy: Option<f64>,
    /// Largest difference of log-probabilities between sampler and trainer.
    pub(super) sampler_mismatch: Option<f64>,
    /// Tokens through the network.
    pub(super) packed_tokens: u64,
}

/// Tokens of a step's rollouts.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct TokensLine {
    /// That went through the network.
    pub(super) run: u64,
    /// That would have gone through it without prefix reuse.
    pub(super) without_reuse: u64,
    /// That were sampled.
    pub(super) generated: u64,
}

/// Clock of a step.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct StepTime {
    /// Rollouts.
    pub(super) rollout_seconds: f64,
    /// Policy update.
    pub(super) update_seconds: f64,
    /// Version test and creator.
    pub(super) skills_seconds: f64,
    /// Rollout speed.
    pub(super) rollout_tokens_per_second: Option<f64>,
    /// Update speed.
    pub(super) update_tokens_per_second: Option<f64>,
}

/// An evaluation.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct EvaluationLine {
    /// Training steps before it.
    #[serde(default)]
    pub(super) step: u64,
    /// `warm_start`, `during`, `final` or `final_bank_off`.
    pub(super) phase: String,
    /// The numbers.
    pub(super) evaluation: Evaluation,
    /// Clock.
    #[serde(default)]
    pub(super) time: Seconds,
}

/// A clock with seconds only.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Seconds {
    /// Wall-clock seconds.
    pub(super) seconds: f64,
}
