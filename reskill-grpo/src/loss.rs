//! Configuration of the loss, and what each token weighs in it.

use reskill_kernels::ops;
use serde::{Deserialize, Serialize};

use crate::error::{GrpoError, check};
use crate::trajectory::TokenTrajectory;

/// How the losses of tokens become one number. Sequences without a trained token are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Aggregation {
    /// Mean over all tokens of the mini-batch (DAPO, verl's default).
    TokenMean,
    /// Sum over the tokens of a sequence, mean over sequences.
    SeqMeanTokenSum,
    /// Mean over the tokens of a sequence, mean over sequences (the first GRPO).
    SeqMeanTokenMean,
    /// Sum over all tokens, divided by `loss.constant` (Dr. GRPO).
    Constant,
}

/// What a sequence is, for aggregation and for sequence ratios.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SequenceUnit {
    /// The reply of one turn.
    Turn,
    /// All replies of an episode.
    Episode,
}

/// The term that advantages enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Surrogate {
    /// PPO's clipped surrogate, with the dual clip.
    Clip,
    /// The clipped ratio as a weight that is not differentiated (arXiv:2506.13585).
    Cispo,
    /// A soft gate in place of the clip (arXiv:2511.20347).
    Sapo,
    /// The plain policy gradient: no ratio.
    PolicyGradient,
}

/// Whose ratio a token has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RatioLevel {
    /// Its own.
    Token,
    /// The geometric mean over its sequence (GSPO, arXiv:2507.18071).
    Sequence,
}

/// How the divergence from the reference is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum KlEstimator {
    /// `logprob - ref`: unbiased value, but as a loss its expected gradient is 0.
    K1,
    /// `(ref - logprob)^2 / 2`.
    K2,
    /// `exp(ref - logprob) - (ref - logprob) - 1`.
    K3,
    /// The divergence over the whole vocabulary (or the allowed set).
    Full,
}

/// Where the log-probabilities come from that ratios are taken against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OldLogprobs {
    /// From the sampler, as it reported them.
    Sampler,
    /// From the policy as the update begins, by one more forward pass.
    Recompute,
}

/// The clipped policy-gradient loss with a penalty against a reference policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct LossConfig {
    /// The term that advantages enter: `clip`, `cispo`, `sapo` or `policy-gradient`.
    pub surrogate: Surrogate,
    /// The ratio is clipped below at 1 - `clip_low`; in 0..1 (CISPO: up to 1, which leaves the lower side open).
    pub clip_low: f32,
    /// The ratio is clipped above at 1 + `clip_high`; > 0.
    pub clip_high: f32,
    /// For negative advantages the loss is at most -`dual_clip` * advantage; > 1. Absent: no bound.
    pub dual_clip: Option<f32>,
    /// Whose ratio a token has: `token` or `sequence`.
    pub ratio: RatioLevel,
    /// What a sequence is: `turn` or `episode`.
    pub sequence: SequenceUnit,
    /// How the divergence from the reference is measured: `k1`, `k2`, `k3` or `full`.
    pub kl: KlEstimator,
    /// Coefficient of the divergence from the reference policy, >= 0. At 0 no reference is run.
    pub kl_coef: f32,
    /// Coefficient of the entropy bonus, >= 0.
    pub entropy_coef: f32,
    /// Bound on the log-ratios inside exponentials. Absent: none.
    pub log_ratio_clamp: Option<f32>,
    /// Bound on k3. Absent: none.
    pub k3_clamp: Option<f32>,
    /// Where old log-probabilities come from: `sampler` or `recompute`.
    pub old_logprobs: OldLogprobs,
    /// The policy term is weighed by `min(exp(recomputed - sampler), importance_truncation)`, > 0; needs
    /// `old_logprobs = "recompute"`. Absent: no weight.
    pub importance_truncation: Option<f32>,
    /// How tokens are aggregated.
    pub aggregation: Aggregation,
    /// The divisor of `aggregation = "constant"`, > 0.
    pub constant: f32,
    /// Tiles of the vocabulary in which no token has this probability are left out of the gradient, in 0..1; see
    /// `linear_logprob_backward_filtered` for the error. Absent: exact.
    pub gradient_filter: Option<f32>,
}

impl Default for LossConfig {
    fn default() -> Self {
        LossConfig {
            surrogate: Surrogate::Clip,
            clip_low: 0.2,
            clip_high: 0.2,
            dual_clip: Some(3.0),
            ratio: RatioLevel::Token,
            sequence: SequenceUnit::Turn,
            kl: KlEstimator::K3,
            kl_coef: 0.01,
            entropy_coef: 0.0,
            log_ratio_clamp: None,
            k3_clamp: None,
            old_logprobs: OldLogprobs::Sampler,
            importance_truncation: None,
            aggregation: Aggregation::TokenMean,
            constant: 1.0,
            gradient_filter: None,
        }
    }
}

impl LossConfig {
    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`GrpoError::Config`].
    pub fn validate(&self) -> Result<(), GrpoError> {
        let open = self.surrogate == Surrogate::Cispo && self.clip_low == 1.0;
        check(
            (self.clip_low > 0.0 && self.clip_low < 1.0) || open,
            "loss.clip_low",
            self.clip_low,
            "a number in (0, 1)",
        )?;
        let positive = [("loss.clip_high", self.clip_high), ("loss.constant", self.constant)];
        for (key, value) in positive {
            check(value > 0.0 && value.is_finite(), key, value, "a number > 0")?;
        }
        let not_negative = [("loss.kl_coef", self.kl_coef), ("loss.entropy_coef", self.entropy_coef)];
        for (key, value) in not_negative {
            check(value >= 0.0 && value.is_finite(), key, value, "a number >= 0")?;
        }
        if let Some(dual_clip) = self.dual_clip {
            check(dual_clip > 1.0, "loss.dual_clip", dual_clip, "a number > 1")?;
        }
        for (key, bound) in [
            ("loss.log_ratio_clamp", self.log_ratio_clamp),
            ("loss.k3_clamp", self.k3_clamp),
            ("loss.importance_truncation", self.importance_truncation),
        ] {
            if let Some(bound) = bound {
                check(bound > 0.0, key, bound, "a number > 0")?;
            }
        }
        if let Some(filter) = self.gradient_filter {
            check(filter > 0.0 && filter < 1.0, "loss.gradient_filter", filter, "a number in (0, 1)")?;
        }
        let truncates_nothing =
            self.importance_truncation.is_some() && self.old_logprobs == OldLogprobs::Sampler;
        check(
            !truncates_nothing,
            "loss.old_logprobs",
            "sampler",
            "`recompute` where loss.importance_truncation is set",
        )
    }

    /// The numbers that the kernel takes.
    #[must_use]
    pub fn params(&self) -> ops::GrpoLossParams {
        ops::GrpoLossParams {
            surrogate: match self.surrogate {
                Surrogate::Clip => ops::Surrogate::Clip,
                Surrogate::Cispo => ops::Surrogate::Cispo,
                Surrogate::Sapo => ops::Surrogate::Sapo,
                Surrogate::PolicyGradient => ops::Surrogate::PolicyGradient,
            },
            clip_low: f64::from(self.clip_low),
            clip_high: f64::from(self.clip_high),
            dual_clip: self.dual_clip.map(f64::from),
            ratio: match self.ratio {
                RatioLevel::Token => ops::RatioLevel::Token,
                RatioLevel::Sequence => ops::RatioLevel::Sequence,
            },
            kl: match self.kl {
                KlEstimator::K1 => ops::KlEstimator::K1,
                KlEstimator::K2 => ops::KlEstimator::K2,
                KlEstimator::K3 => ops::KlEstimator::K3,
                KlEstimator::Full => ops::KlEstimator::Full,
            },
            kl_coef: f64::from(self.kl_coef),
            entropy_coef: f64::from(self.entropy_coef),
            log_ratio_clamp: self.log_ratio_clamp.map(f64::from),
            k3_clamp: self.k3_clamp.map(f64::from),
            importance_truncation: self.importance_truncation.map(f64::from),
        }
    }

    /// Weight of a token of a sequence with `sequence_tokens` trained tokens, in a mini-batch of these totals.
    #[must_use]
    pub fn token_weight(&self, sequence_tokens: usize, totals: BatchTotals) -> f32 {
        let divisor = match self.aggregation {
            Aggregation::TokenMean => totals.tokens as f32,
            Aggregation::SeqMeanTokenSum => totals.sequences as f32,
            Aggregation::SeqMeanTokenMean => totals.sequences as f32 * sequence_tokens as f32,
            Aggregation::Constant => self.constant,
        };
        1.0 / divisor.max(f32::MIN_POSITIVE)
    }
}

/// What a mini-batch holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchTotals {
    /// Trained tokens.
    pub tokens: usize,
    /// Sequences with at least one trained token.
    pub sequences: usize,
}

impl BatchTotals {
    /// Counts the trajectories of a mini-batch.
    #[must_use]
    pub fn of(trajectories: &[&TokenTrajectory], unit: SequenceUnit) -> BatchTotals {
        let mut totals = BatchTotals::default();
        for trajectory in trajectories {
            let trained: Vec<usize> = trajectory.turns.iter().map(|turn| turn.trained_len()).collect();
            let tokens: usize = trained.iter().sum();
            totals.tokens += tokens;
            totals.sequences += match unit {
                SequenceUnit::Turn => trained.iter().filter(|&&n| n > 0).count(),
                SequenceUnit::Episode => usize::from(tokens > 0),
            };
        }
        totals
    }
}
