//! Sampling on the CPU.

use rayon::prelude::*;

use crate::ops::linear_logprob::cpu::Problem;
use crate::simd::exp;
use crate::tensor::Tensor;

/// Rows that one task takes at once.
const BLOCK: usize = 8;

pub(super) fn sample(
    tokens: &mut Tensor<u32>,
    logprobs: &mut Tensor,
    problem: &Problem<'_>,
    greedy: bool,
    uniforms: &Tensor,
) {
    let blocks =
        tokens.as_mut_slice().par_chunks_mut(BLOCK).zip(logprobs.as_mut_slice().par_chunks_mut(BLOCK));
    blocks.enumerate().for_each(|(block, (tokens, logprobs))| {
        let first = block * BLOCK;
        problem.for_each_row(first, tokens.len(), |n, logits| {
            let lse = problem.log_sum_exp(n, logits);
            let index =
                if greedy { arg_max(logits) } else { inverse_cdf(logits, lse, uniforms.as_slice()[n]) };
            tokens[n - first] = problem.token_at(n, index);
            logprobs[n - first] = logits[index] - lse;
        });
    });
}

/// Index of the largest logit, the first on ties.
pub(super) fn arg_max(logits: &[f32]) -> usize {
    let mut best = 0;
    for (index, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = index;
        }
    }
    best
}

/// First index at which the cumulative probability exceeds `uniform`. Rounding can leave the total below `uniform`;
/// then the last index with a probability above zero is taken.
fn inverse_cdf(logits: &[f32], lse: f32, uniform: f32) -> usize {
    let mut cumulative = 0.0_f64;
    let mut last = 0;
    for (index, &logit) in logits.iter().enumerate() {
        let p = f64::from(exp(logit - lse));
        if p > 0.0 {
            last = index;
        }
        cumulative += p;
        if f64::from(uniform) < cumulative {
            return index;
        }
    }
    last
}
