//! Configuration of the loss, and what each token weighs in it.

use reskill_kernels::ops::GrpoLossParams;
use serde::{Deserialize, Serialize};

use crate::error::{GrpoError, check};
use crate::trajectory::TokenTrajectory;

/// How the losses of tokens become one number. A sequence is the reply of one turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregation {
    /// Mean over all tokens of the mini-batch.
    TokenMean,
    /// Sum over the tokens of a sequence, mean over sequences.
    SeqMeanTokenSum,
    /// Mean over the tokens of a sequence, mean over sequences.
    SeqMeanTokenMean,
    /// Sum over all tokens, divided by `loss.constant` (Dr. GRPO).
    Constant,
}

/// The clipped policy-gradient loss with a penalty against a reference policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossConfig {
    /// The ratio is clipped below at 1 - `clip_low`; in 0..1.
    pub clip_low: f32,
    /// The ratio is clipped above at 1 + `clip_high`; > 0.
    pub clip_high: f32,
    /// For negative advantages the loss is at most -`dual_clip` * advantage; > 1. Absent: no bound.
    pub dual_clip: Option<f32>,
    /// Coefficient of k3 against the reference policy, >= 0. At 0 no reference is run.
    pub kl_coef: f32,
    /// Coefficient of the entropy bonus, >= 0.
    pub entropy_coef: f32,
    /// Bound on the log-ratios inside exponentials. Absent: none.
    pub log_ratio_clamp: Option<f32>,
    /// Bound on k3. Absent: none.
    pub k3_clamp: Option<f32>,
    /// How tokens are aggregated.
    pub aggregation: Aggregation,
    /// The divisor of `aggregation = "constant"`, > 0.
    pub constant: f32,
}

impl Default for LossConfig {
    fn default() -> Self {
        LossConfig {
            clip_low: 0.2,
            clip_high: 0.2,
            dual_clip: Some(3.0),
            kl_coef: 0.01,
            entropy_coef: 0.0,
            log_ratio_clamp: None,
            k3_clamp: None,
            aggregation: Aggregation::TokenMean,
            constant: 1.0,
        }
    }
}

impl LossConfig {
    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`GrpoError::Config`].
    pub fn validate(&self) -> Result<(), GrpoError> {
        check(
            self.clip_low > 0.0 && self.clip_low < 1.0,
            "loss.clip_low",
            self.clip_low,
            "a number in (0, 1)",
        )?;
        check(
            self.clip_high > 0.0 && self.clip_high.is_finite(),
            "loss.clip_high",
            self.clip_high,
            "a number > 0",
        )?;
        check(
            self.kl_coef >= 0.0 && self.kl_coef.is_finite(),
            "loss.kl_coef",
            self.kl_coef,
            "a number >= 0",
        )?;
        check(
            self.entropy_coef >= 0.0 && self.entropy_coef.is_finite(),
            "loss.entropy_coef",
            self.entropy_coef,
            "a number >= 0",
        )?;
        check(
            self.constant > 0.0 && self.constant.is_finite(),
            "loss.constant",
            self.constant,
            "a number > 0",
        )?;
        if let Some(dual_clip) = self.dual_clip {
            check(dual_clip > 1.0, "loss.dual_clip", dual_clip, "a number > 1")?;
        }
        for (key, clamp) in [("loss.log_ratio_clamp", self.log_ratio_clamp), ("loss.k3_clamp", self.k3_clamp)]
        {
            if let Some(clamp) = clamp {
                check(clamp > 0.0, key, clamp, "a number > 0")?;
            }
        }
        Ok(())
    }

    /// The numbers that the kernel takes.
    #[must_use]
    pub fn params(&self) -> GrpoLossParams {
        GrpoLossParams {
            clip_low: self.clip_low,
            clip_high: self.clip_high,
            dual_clip: self.dual_clip,
            kl_coef: self.kl_coef,
            entropy_coef: self.entropy_coef,
            log_ratio_clamp: self.log_ratio_clamp,
            k3_clamp: self.k3_clamp,
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
    pub fn of(trajectories: &[&TokenTrajectory]) -> BatchTotals {
        let mut totals = BatchTotals::default();
        for turn in trajectories.iter().flat_map(|trajectory| &trajectory.turns) {
            let trained = turn.reply.iter().filter(|token| !token.is_forced()).count();
            totals.tokens += trained;
            totals.sequences += usize::from(trained > 0);
        }
        totals
    }
}
