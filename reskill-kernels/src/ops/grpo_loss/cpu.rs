//! The GRPO loss on the CPU.

use super::{GrpoLossInputs, GrpoLossParams, GrpoLossSums};
use crate::tensor::Tensor;

/// A value and its derivative by the log-probability.
struct Term {
    value: f32,
    slope: f32,
}

pub(super) fn loss(
    d_logprobs: &mut Tensor,
    d_entropy: &mut Tensor,
    inputs: &GrpoLossInputs<'_>,
    params: &GrpoLossParams,
) -> GrpoLossSums {
    let mut sums = GrpoLossSums::default();
    let (d_logprobs, d_entropy) = (d_logprobs.as_mut_slice(), d_entropy.as_mut_slice());
    let logprobs = inputs.logprobs.as_slice();
    let (old, entropy) = (inputs.old_logprobs.as_slice(), inputs.entropy.as_slice());
    let (advantages, weights) = (inputs.advantages.as_slice(), inputs.weights.as_slice());
    for n in 0..logprobs.len() {
        let weight = weights[n];
        if weight == 0.0 {
            d_logprobs[n] = 0.0;
            d_entropy[n] = 0.0;
            continue;
        }
        let log_ratio = logprobs[n] - old[n];
        let policy = policy_term(log_ratio, advantages[n], params, &mut sums);
        let kl = if params.kl_coef == 0.0 {
            Term { value: 0.0, slope: 0.0 }
        } else {
            k3_term(inputs.ref_logprobs.as_slice()[n] - logprobs[n], params)
        };
        let value = policy.value + params.kl_coef * kl.value - params.entropy_coef * entropy[n];
        d_logprobs[n] = weight * (policy.slope + params.kl_coef * kl.slope);
        d_entropy[n] = -weight * params.entropy_coef;
        sums.loss += f64::from(weight) * f64::from(value);
        sums.tokens += 1;
        sums.approx_kl += f64::from(log_ratio).exp_m1() - f64::from(log_ratio);
        sums.ref_kl += f64::from(kl.value);
        sums.entropy += f64::from(entropy[n]);
        sums.max_log_ratio = sums.max_log_ratio.max(f64::from(log_ratio.abs()));
    }
    sums
}

/// The clipped policy-gradient term.
fn policy_term(log_ratio: f32, advantage: f32, params: &GrpoLossParams, sums: &mut GrpoLossSums) -> Term {
    let bound = params.log_ratio_clamp.unwrap_or(f32::INFINITY);
    let ratio = log_ratio.clamp(-bound, bound).exp();
    let ratio_slope = if log_ratio.abs() <= bound { ratio } else { 0.0 };
    let unclipped = -ratio * advantage;
    let clipped = -ratio.clamp(1.0 - params.clip_low, 1.0 + params.clip_high) * advantage;
    if advantage < 0.0
        && let Some(dual) = params.dual_clip
        && unclipped.max(clipped) > -dual * advantage
    {
        sums.clipped_low += 1;
        return Term { value: -dual * advantage, slope: 0.0 };
    }
    if clipped > unclipped {
        if ratio > 1.0 {
            sums.clipped_high += 1;
        } else {
            sums.clipped_low += 1;
        }
        return Term { value: clipped, slope: 0.0 };
    }
    Term { value: unclipped, slope: -ratio_slope * advantage }
}

/// k3 with `d = ref - logprob`.
fn k3_term(d: f32, params: &GrpoLossParams) -> Term {
    let bound = params.log_ratio_clamp.unwrap_or(f32::INFINITY);
    let inner = d.clamp(-bound, bound);
    let value = inner.exp_m1() - inner;
    let limit = params.k3_clamp.unwrap_or(f32::INFINITY);
    if d.abs() > bound || value > limit {
        return Term { value: value.min(limit), slope: 0.0 };
    }
    Term { value, slope: -inner.exp_m1() }
}
