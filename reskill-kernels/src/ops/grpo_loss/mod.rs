//! The GRPO loss of each token and its gradient by the token's log-probability and entropy.
//!
//! Source: Shao et al. 2024, arXiv:2402.03300, eq. 3, with the k3 estimator of Schulman 2020
//! (joschu.net/blog/kl-approx.html); dual clip: Ye et al. 2020, arXiv:1912.09729, eq. 5; asymmetric clip: DAPO,
//! arXiv:2503.14476.

mod cpu;

use crate::error::{KernelError, check_range, check_shape};
use crate::tensor::Tensor;

/// The numbers of the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GrpoLossParams {
    /// The ratio is clipped below at `1 - clip_low`.
    pub clip_low: f32,
    /// The ratio is clipped above at `1 + clip_high`.
    pub clip_high: f32,
    /// For a negative advantage the loss is at most `-dual_clip * advantage`.
    pub dual_clip: Option<f32>,
    /// Coefficient of k3 against the reference.
    pub kl_coef: f32,
    /// Coefficient of the entropy bonus.
    pub entropy_coef: f32,
    /// Bound on |logprob - old| inside the exponential; no gradient flows beyond it.
    pub log_ratio_clamp: Option<f32>,
    /// Bound on |k3|; no gradient flows beyond it. The inner log-ratio is bounded by `log_ratio_clamp`.
    pub k3_clamp: Option<f32>,
}

/// The columns of the loss, each (N) f32.
#[derive(Debug, Clone, Copy)]
pub struct GrpoLossInputs<'a> {
    /// Log-probabilities under the policy that is trained.
    pub logprobs: &'a Tensor,
    /// Log-probabilities under the policy that sampled.
    pub old_logprobs: &'a Tensor,
    /// Log-probabilities under the frozen reference; not read if `kl_coef` is 0.
    pub ref_logprobs: &'a Tensor,
    /// Entropy of the policy at each token.
    pub entropy: &'a Tensor,
    /// Advantage of each token's turn.
    pub advantages: &'a Tensor,
    /// Weight of each token in the total: its mask times what the aggregation gives it.
    pub weights: &'a Tensor,
}

/// Sums over the tokens whose weight is not zero, in f64.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct GrpoLossSums {
    /// Weighted loss.
    pub loss: f64,
    /// Tokens counted.
    pub tokens: u64,
    /// Tokens whose gradient the upper clip stops.
    pub clipped_high: u64,
    /// Tokens whose gradient the lower clip (or the dual clip) stops.
    pub clipped_low: u64,
    /// k3 of this policy against the one that sampled, `r - 1 - ln r`: how far the update has moved.
    pub approx_kl: f64,
    /// k3 against the reference.
    pub ref_kl: f64,
    /// Entropy.
    pub entropy: f64,
    /// Largest |logprob - old|.
    pub max_log_ratio: f64,
}

/// For each token, with `r = exp(logprob - old)` and `A` the advantage:
///
/// `loss = -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A)`, for `A < 0` at most `-dual_clip A`,
/// `+ kl_coef * k3 - entropy_coef * entropy`, `k3 = exp(ref - logprob) - (ref - logprob) - 1`; the total is the sum of
/// `weight * loss`.
///
/// - `d_logprobs`, `d_entropy`: (N) f32, overwritten with the gradient of the total
///
/// # Errors
/// [`KernelError::Shape`]; [`KernelError::Range`] for a negative clip or a clamp that is not positive.
pub fn grpo_loss(
    d_logprobs: &mut Tensor,
    d_entropy: &mut Tensor,
    inputs: &GrpoLossInputs<'_>,
    params: &GrpoLossParams,
) -> Result<GrpoLossSums, KernelError> {
    const OP: &str = "grpo_loss";
    let shape = inputs.logprobs.shape().to_vec();
    for (arg, column) in [
        ("d_logprobs", &*d_logprobs),
        ("d_entropy", &*d_entropy),
        ("old_logprobs", inputs.old_logprobs),
        ("entropy", inputs.entropy),
        ("advantages", inputs.advantages),
        ("weights", inputs.weights),
    ] {
        check_shape(OP, arg, column.shape(), &shape)?;
    }
    if params.kl_coef != 0.0 {
        check_shape(OP, "ref_logprobs", inputs.ref_logprobs.shape(), &shape)?;
    }
    for (arg, value) in [("clip_low", params.clip_low), ("clip_high", params.clip_high)] {
        check_range(value >= 0.0, OP, arg, value, ">= 0")?;
    }
    for (arg, clamp) in [("log_ratio_clamp", params.log_ratio_clamp), ("k3_clamp", params.k3_clamp)] {
        check_range(clamp.is_none_or(|bound| bound > 0.0), OP, arg, clamp.unwrap_or_default(), "> 0")?;
    }
    Ok(cpu::loss(d_logprobs, d_entropy, inputs, params))
}
