//! What the variants share: their numbers, and what each gives for a token.

use super::GrpoLossParams;
use super::real::Real;

/// A value, its derivative by the log-ratio (of the token or of its sequence) and that by the token's log-probability.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Term<F> {
    pub(super) value: F,
    pub(super) by_log_ratio: F,
    pub(super) by_logprob: F,
}

/// Whether a clip stops (or, in CISPO, bounds) the gradient of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clipped {
    No,
    High,
    Low,
    Dual,
}

/// [`GrpoLossParams`] in the type of the computation.
pub(super) struct Numbers<F> {
    pub(super) clip_low: F,
    pub(super) clip_high: F,
    pub(super) dual_clip: Option<F>,
    pub(super) kl_coef: F,
    pub(super) entropy_coef: F,
    pub(super) log_ratio_clamp: Option<F>,
    pub(super) k3_clamp: Option<F>,
    pub(super) importance_truncation: Option<F>,
}

impl<F: Real> Numbers<F> {
    pub(super) fn new(params: &GrpoLossParams) -> Numbers<F> {
        Numbers {
            clip_low: F::from_f64(params.clip_low),
            clip_high: F::from_f64(params.clip_high),
            dual_clip: params.dual_clip.map(F::from_f64),
            kl_coef: F::from_f64(params.kl_coef),
            entropy_coef: F::from_f64(params.entropy_coef),
            log_ratio_clamp: params.log_ratio_clamp.map(F::from_f64),
            k3_clamp: params.k3_clamp.map(F::from_f64),
            importance_truncation: params.importance_truncation.map(F::from_f64),
        }
    }

    /// A log-ratio within the clamp.
    pub(super) fn clamped(&self, log_ratio: F) -> F {
        self.log_ratio_clamp.map_or(log_ratio, |bound| log_ratio.within(-bound, bound))
    }

    /// Whether the clamp changes it, so that no gradient flows.
    pub(super) fn is_clamped(&self, log_ratio: F) -> bool {
        self.log_ratio_clamp.is_some_and(|bound| log_ratio > bound || log_ratio < -bound)
    }
}
