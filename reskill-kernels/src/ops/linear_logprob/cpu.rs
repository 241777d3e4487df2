//! Fused log-probabilities on the CPU, in blocks of rows. A row with an allowed set computes only the logits of that
//! set; a row without computes all of them into a scratch row that lives as long as its block.

use multiversion::multiversion;
use rayon::prelude::*;

use super::TokenSets;
use crate::ops::matmul::cpu as matmul;
use crate::parallel::sum_over_row_blocks;
use crate::simd::{axpy, dot, exp, sum};
use crate::tensor::Tensor;

/// Rows whose logits are held at once by one task.
const BLOCK: usize = 32;
/// Rows that go into one partial sum of the head's gradient.
const HEAD_BLOCK: usize = 512;

/// What both passes read.
pub(crate) struct Problem<'a> {
    pub(crate) hidden: &'a Tensor,
    pub(crate) head: &'a Tensor,
    pub(crate) allowed: &'a TokenSets,
    pub(crate) temperature: f32,
}

/// Gradients from above and values kept from the forward pass, each (N).
pub(super) struct Upstream<'a> {
    pub(super) d_logprobs: &'a [f32],
    pub(super) d_entropy: &'a [f32],
    pub(super) entropy: &'a [f32],
    pub(super) lse: &'a [f32],
}

impl Problem<'_> {
    fn hidden_row(&self, n: usize) -> &[f32] {
        let c = self.hidden.row_len();
        &self.hidden.as_slice()[n * c..(n + 1) * c]
    }

    /// Logits over `temperature` of row `n`: of its allowed tokens in their order, or of the whole vocabulary.
    pub(crate) fn scaled_logits(&self, n: usize, logits: &mut Vec<f32>) {
        let set = self.allowed.row(n);
        let (head, c, hidden) = (self.head.as_slice(), self.head.row_len(), self.hidden_row(n));
        if set.is_empty() {
            logits.resize(self.head.rows(), 0.0);
            matmul::forward(logits, hidden, head, self.head.rows(), c, false);
        } else {
            logits.clear();
            set_logits(logits, hidden, head, set);
        }
        for logit in logits.iter_mut() {
            *logit /= self.temperature;
        }
    }

    /// The token that stands at `index` of row `n`'s logits.
    pub(crate) fn token_at(&self, n: usize, index: usize) -> u32 {
        self.allowed.row(n).get(index).copied().unwrap_or(index as u32)
    }

    /// Where `token` stands in row `n`'s logits.
    fn index_of(&self, n: usize, token: u32) -> usize {
        self.allowed.row(n).iter().position(|&id| id == token).unwrap_or(token as usize)
    }
}

pub(super) fn forward(
    logprobs: &mut Tensor,
    entropy: &mut Tensor,
    lse: &mut Tensor,
    problem: &Problem<'_>,
    targets: &Tensor<u32>,
) {
    let targets = targets.as_slice();
    let columns = logprobs
        .as_mut_slice()
        .par_chunks_mut(BLOCK)
        .zip(entropy.as_mut_slice().par_chunks_mut(BLOCK))
        .zip(lse.as_mut_slice().par_chunks_mut(BLOCK));
    columns.enumerate().for_each(|(block, ((logprobs, entropy), lse))| {
        let mut logits = Vec::new();
        for row in 0..logprobs.len() {
            let n = block * BLOCK + row;
            problem.scaled_logits(n, &mut logits);
            lse[row] = log_sum_exp(&logits);
            logprobs[row] = logits[problem.index_of(n, targets[n])] - lse[row];
            entropy[row] = entropy_of(&logits, lse[row]);
        }
    });
}

pub(super) fn backward(
    d_hidden: &mut Tensor,
    d_head: &mut Tensor,
    upstream: &Upstream<'_>,
    problem: &Problem<'_>,
    targets: &Tensor<u32>,
) {
    let (n, c) = (problem.hidden.rows(), problem.head.row_len());
    let targets = targets.as_slice();
    d_hidden.as_mut_slice().par_chunks_mut(BLOCK * c).enumerate().for_each(|(block, rows)| {
        let mut d_logits = Vec::new();
        for (row, d_hidden) in rows.chunks_exact_mut(c).enumerate() {
            let n = block * BLOCK + row;
            d_logits_of(&mut d_logits, n, targets[n], upstream, problem);
            let set = problem.allowed.row(n);
            if set.is_empty() {
                let head = problem.head;
                matmul::backward_input(d_hidden, &d_logits, head.as_slice(), head.rows(), c, false);
            } else {
                d_hidden.fill(0.0);
                for (&token, &d_logit) in set.iter().zip(&d_logits) {
                    axpy(d_hidden, d_logit, &problem.head.as_slice()[token as usize * c..][..c]);
                }
            }
        }
    });
    sum_over_row_blocks(d_head.as_mut_slice(), n, HEAD_BLOCK, |first, n_rows, d_head| {
        let mut d_logits = Vec::new();
        for n in first..first + n_rows {
            d_logits_of(&mut d_logits, n, targets[n], upstream, problem);
            for (index, &d_logit) in d_logits.iter().enumerate() {
                let token = problem.token_at(n, index) as usize;
                axpy(&mut d_head[token * c..(token + 1) * c], d_logit, problem.hidden_row(n));
            }
        }
    });
}

/// Gradient of the loss by the undivided logits of row `n`.
fn d_logits_of(d_logits: &mut Vec<f32>, n: usize, target: u32, upstream: &Upstream<'_>, problem: &Problem<'_>) {
    problem.scaled_logits(n, d_logits);
    let target = problem.index_of(n, target);
    let (d_logprob, d_entropy) = (upstream.d_logprobs[n], upstream.d_entropy[n]);
    let (entropy, lse) = (upstream.entropy[n], upstream.lse[n]);
    for (index, z) in d_logits.iter_mut().enumerate() {
        let logprob = *z - lse;
        let p = exp(logprob);
        let hit = if index == target { 1.0 } else { 0.0 };
        *z = (d_logprob * (hit - p) - d_entropy * p * (logprob + entropy)) / problem.temperature;
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn set_logits(logits: &mut Vec<f32>, hidden: &[f32], head: &[f32], set: &[u32]) {
    let c = hidden.len();
    logits.extend(set.iter().map(|&token| dot(hidden, &head[token as usize * c..][..c])));
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub(crate) fn log_sum_exp(logits: &[f32]) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    let mut shifted = [0.0; 256];
    for chunk in logits.chunks(256) {
        for (shifted, z) in shifted.iter_mut().zip(chunk) {
            *shifted = exp(z - max);
        }
        total += sum(&shifted[..chunk.len()]);
    }
    max + total.ln()
}

fn entropy_of(logits: &[f32], lse: f32) -> f32 {
    -logits.iter().map(|z| exp(z - lse) * (z - lse)).sum::<f32>()
}
