//! Definitions in f64 that several operations share.

use anyhow::Result;
use rayon::prelude::*;
use reskill_kernels::Tensor;

use super::sample::for_pieces;

/// Sums that stand side by side, so that the processor adds them at once.
const LANES: usize = 8;

/// Inner product.
pub(super) fn inner<B: Copy + Into<f64>>(a: &[f64], b: &[B]) -> f64 {
    let mut sums = [0.0; LANES];
    let whole = a.len() / LANES * LANES;
    for (a, b) in a[..whole].chunks_exact(LANES).zip(b[..whole].chunks_exact(LANES)) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane].into();
        }
    }
    let rest = a[whole..].iter().zip(&b[whole..]).map(|(a, &b)| a * b.into());
    sums.iter().sum::<f64>() + rest.sum::<f64>()
}

/// `to += factor x`.
pub(super) fn add_scaled<B: Copy + Into<f64>>(to: &mut [f64], factor: f64, x: &[B]) {
    to.iter_mut().zip(x).for_each(|(to, &x)| *to += factor * x.into());
}

/// `log softmax` of logits.
pub(super) fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let lse = log_sum_exp(logits);
    logits.iter().map(|z| z - lse).collect()
}

/// `log sum exp` of logits.
pub(super) fn log_sum_exp(logits: &[f64]) -> f64 {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    top + logits.iter().map(|z| (z - top).exp()).sum::<f64>().ln()
}

/// Logits of hidden rows over all rows of a head.
pub(super) fn logits(hidden: &[Vec<f64>], head: &Tensor) -> Result<Vec<Vec<f64>>> {
    let width = head.row_len();
    let mut all = vec![Vec::with_capacity(head.rows()); hidden.len()];
    for_pieces(head, |_, rows| {
        let tokens = rows.par_chunks_exact(width);
        let found: Vec<Vec<f64>> =
            tokens.map(|token| hidden.iter().map(|hidden| inner(hidden, token)).collect()).collect();
        for logits in found {
            all.iter_mut().zip(logits).for_each(|(all, logit)| all.push(logit));
        }
    })?;
    Ok(all)
}

/// `sum_v weights[v] head[v]` for each row of weights.
pub(super) fn weighted_rows(weights: &[Vec<f64>], head: &Tensor) -> Result<Vec<Vec<f64>>> {
    let width = head.row_len();
    let mut sums = vec![vec![0.0; width]; weights.len()];
    for_pieces(head, |first, rows| {
        sums.par_iter_mut().zip(weights).for_each(|(sum, weights)| {
            for (row, &weight) in rows.chunks_exact(width).zip(&weights[first..]) {
                add_scaled(sum, weight, row);
            }
        });
    })?;
    Ok(sums)
}

/// Entropy of a distribution by its log-probabilities.
pub(super) fn entropy(logprobs: &[f64]) -> f64 {
    -logprobs.iter().map(|l| l.exp() * l).sum::<f64>()
}
