//! What an update reports.

use reskill_kernels::ops::GrpoLossSums;
use serde::{Deserialize, Serialize};

/// What an update did. Means are over trained tokens; mini-batches whose update was skipped are not in them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateMetrics {
    /// Loss, mean over mini-batches.
    pub loss: f64,
    /// Gradient norm before clipping, mean over mini-batches.
    pub grad_norm: f64,
    /// Share of tokens whose gradient the clip stopped, above and below.
    pub clip_fraction_high: f64,
    /// See `clip_fraction_high`.
    pub clip_fraction_low: f64,
    /// The part of `clip_fraction_low` that the dual clip stopped.
    pub clip_fraction_dual: f64,
    /// k3 between sampler and policy during the update.
    pub approx_kl: f64,
    /// Divergence from the reference, as `loss.kl` estimates it.
    pub ref_kl: f64,
    /// Entropy of the policy, nats a token.
    pub entropy: f64,
    /// Ratios of the policy to the one that sampled, token by token.
    pub ratio: RatioQuantiles,
    /// Largest difference between the sampler's log-probability and the trainer's, before the first optimizer step:
    /// 0 where both compute the same.
    pub sampler_mismatch: f64,
    /// Learning rate of the last optimizer step.
    pub learning_rate: f64,
    /// Optimizer steps.
    pub optimizer_steps: u64,
    /// Mini-batches whose loss or gradient was not finite: their update was skipped.
    pub skipped_updates: u64,
    /// Packed tokens that went through the network.
    pub packed_tokens: u64,
    /// Tokens with a loss.
    pub trained_tokens: u64,
}

impl UpdateMetrics {
    /// Sums into means: over mini-batches, and over the tokens that `all` counts.
    pub(super) fn averaged(self, all: GrpoLossSums, log_ratios: Vec<f32>) -> UpdateMetrics {
        let (steps, tokens) = (self.optimizer_steps.max(1) as f64, all.tokens.max(1) as f64);
        UpdateMetrics {
            loss: all.loss / steps,
            grad_norm: self.grad_norm / steps,
            clip_fraction_high: all.clipped_high as f64 / tokens,
            clip_fraction_low: all.clipped_low as f64 / tokens,
            clip_fraction_dual: all.clipped_dual as f64 / tokens,
            approx_kl: all.approx_kl / tokens,
            ref_kl: all.ref_kl / tokens,
            entropy: all.entropy / tokens,
            ratio: RatioQuantiles::of(log_ratios),
            trained_tokens: all.tokens,
            ..self
        }
    }
}

/// Quantiles of `exp(logprob - old)`, by the nearest rank; 1 where there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RatioQuantiles {
    /// The smallest.
    pub min: f64,
    /// One in a hundred is at most this.
    pub p01: f64,
    /// Half are at most this.
    pub p50: f64,
    /// All but one in a hundred are at most this.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Default for RatioQuantiles {
    fn default() -> Self {
        RatioQuantiles { min: 1.0, p01: 1.0, p50: 1.0, p99: 1.0, max: 1.0 }
    }
}

impl RatioQuantiles {
    /// Of these log-ratios.
    #[must_use]
    pub fn of(mut log_ratios: Vec<f32>) -> RatioQuantiles {
        if log_ratios.is_empty() {
            return RatioQuantiles::default();
        }
        log_ratios.sort_unstable_by(f32::total_cmp);
        let n = log_ratios.len();
        let at = |q: f64| {
            let rank = ((q * n as f64).ceil() as usize).clamp(1, n);
            f64::from(log_ratios[rank - 1]).exp()
        };
        RatioQuantiles { min: at(0.0), p01: at(0.01), p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

/// What a pass of imitation did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImitationMetrics {
    /// Cross-entropy, nats a token.
    pub loss: f64,
    /// Gradient norm before clipping, mean over mini-batches.
    pub grad_norm: f64,
    /// Mini-batches whose loss or gradient was not finite: their update was skipped.
    pub skipped_updates: u64,
    /// Packed tokens that went through the network.
    pub packed_tokens: u64,
    /// Tokens with a loss.
    pub trained_tokens: u64,
}

pub(super) fn add(a: GrpoLossSums, b: GrpoLossSums) -> GrpoLossSums {
    GrpoLossSums {
        loss: a.loss + b.loss,
        tokens: a.tokens + b.tokens,
        clipped_high: a.clipped_high + b.clipped_high,
        clipped_low: a.clipped_low + b.clipped_low,
        clipped_dual: a.clipped_dual + b.clipped_dual,
        approx_kl: a.approx_kl + b.approx_kl,
        ref_kl: a.ref_kl + b.ref_kl,
        entropy: a.entropy + b.entropy,
        max_log_ratio: a.max_log_ratio.max(b.max_log_ratio),
    }
}
