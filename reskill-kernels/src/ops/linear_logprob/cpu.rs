//! Fused log-probabilities on the CPU. A row with an allowed set computes only the logits of that set. Rows without are
//! multiplied by the whole head, a block of rows at a time, so that the logits of a block are all that is ever held.

use std::ops::Range;

use multiversion::multiversion;
use rayon::prelude::*;

use super::TokenSets;
use crate::ops::matmul::cpu as matmul;
use crate::simd::{axpy, dot, exp, max, sum};
use crate::tensor::Tensor;

/// Rows that one task takes at once.
const BLOCK: usize = 32;
/// Rows without a set whose gradients by the logits are held at once in the backward pass.
const DENSE_ROWS: usize = 256;

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
    /// Calls `f(n, logits)` for each of the rows `first..first + n_rows` with its logits over the temperature: of its
    /// allowed tokens in their order, or of the whole vocabulary.
    pub(crate) fn for_each_row(&self, first: usize, n_rows: usize, mut f: impl FnMut(usize, &mut [f32])) {
        let mut logits = Vec::new();
        for run in self.runs(first..first + n_rows, BLOCK) {
            if self.is_dense(run.start) {
                logits.resize(run.len() * self.head.rows(), 0.0);
                self.dense_logits(&mut logits, run.clone());
                for (n, logits) in run.zip(logits.chunks_exact_mut(self.head.rows())) {
                    f(n, logits);
                }
            } else {
                for n in run {
                    logits.clear();
                    self.set_logits(&mut logits, n);
                    f(n, &mut logits);
                }
            }
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

    /// Whether row `n` allows the whole vocabulary.
    fn is_dense(&self, n: usize) -> bool {
        self.allowed.row(n).is_empty()
    }

    /// Cuts rows into runs that are all dense, of at most `longest`, or all not.
    fn runs(&self, rows: Range<usize>, longest: usize) -> impl Iterator<Item = Range<usize>> {
        let mut start = rows.start;
        std::iter::from_fn(move || {
            let dense = (start < rows.end).then(|| self.is_dense(start))?;
            let limit = if dense { rows.end.min(start + longest) } else { rows.end };
            let end = (start..limit).find(|&n| self.is_dense(n) != dense).unwrap_or(limit);
            Some(std::mem::replace(&mut start, end)..end)
        })
    }

    fn hidden_rows(&self, rows: Range<usize>) -> &[f32] {
        let c = self.hidden.row_len();
        &self.hidden.as_slice()[rows.start * c..rows.end * c]
    }

    fn dense_logits(&self, logits: &mut [f32], rows: Range<usize>) {
        let (head, c) = (self.head.as_slice(), self.head.row_len());
        matmul::forward(logits, self.hidden_rows(rows), head, self.head.rows(), c, false);
        for logit in logits {
            *logit /= self.temperature;
        }
    }

    fn set_logits(&self, logits: &mut Vec<f32>, n: usize) {
        products_with(logits, self.hidden_rows(n..n + 1), self.head.as_slice(), self.allowed.row(n));
        for logit in logits {
            *logit /= self.temperature;
        }
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
        let first = block * BLOCK;
        problem.for_each_row(first, logprobs.len(), |n, logits| {
            let row = n - first;
            lse[row] = log_sum_exp(logits);
            logprobs[row] = logits[problem.index_of(n, targets[n])] - lse[row];
            entropy[row] = entropy_of(logits, lse[row]);
        });
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
    for run in problem.runs(0..n, DENSE_ROWS) {
        let d_hidden = &mut d_hidden.as_mut_slice()[run.start * c..run.end * c];
        if problem.is_dense(run.start) {
            backward_dense(d_hidden, d_head, run, upstream, problem, targets.as_slice());
        } else {
            backward_sets(d_hidden, d_head, run, upstream, problem, targets.as_slice());
        }
    }
}

fn backward_dense(
    d_hidden: &mut [f32],
    d_head: &mut Tensor,
    rows: Range<usize>,
    upstream: &Upstream<'_>,
    problem: &Problem<'_>,
    targets: &[u32],
) {
    let (vocab_size, c) = (problem.head.rows(), problem.head.row_len());
    let mut d_logits = vec![0.0; rows.len() * vocab_size];
    let blocks = d_logits.par_chunks_mut(BLOCK * vocab_size).zip(d_hidden.par_chunks_mut(BLOCK * c));
    blocks.enumerate().for_each(|(block, (d_logits, d_hidden))| {
        let first = rows.start + block * BLOCK;
        let block = first..first + d_hidden.len() / c;
        problem.dense_logits(d_logits, block.clone());
        for (n, d_logits) in block.zip(d_logits.chunks_exact_mut(vocab_size)) {
            logits_backward(d_logits, n, targets[n] as usize, upstream, problem.temperature);
        }
        matmul::backward_input(d_hidden, d_logits, problem.head.as_slice(), vocab_size, c, false);
    });
    matmul::backward_weight(d_head.as_mut_slice(), &d_logits, problem.hidden_rows(rows), vocab_size, c);
}

fn backward_sets(
    d_hidden: &mut [f32],
    d_head: &mut Tensor,
    rows: Range<usize>,
    upstream: &Upstream<'_>,
    problem: &Problem<'_>,
    targets: &[u32],
) {
    let (head, c) = (problem.head.as_slice(), problem.head.row_len());
    let d_logits: Vec<Vec<f32>> = d_hidden
        .par_chunks_mut(c)
        .with_min_len(BLOCK)
        .zip(rows.clone())
        .map(|(d_hidden, n)| {
            let mut d_logits = Vec::new();
            problem.set_logits(&mut d_logits, n);
            logits_backward(&mut d_logits, n, problem.index_of(n, targets[n]), upstream, problem.temperature);
            d_hidden.fill(0.0);
            for (&token, &d_logit) in problem.allowed.row(n).iter().zip(&d_logits) {
                axpy(d_hidden, d_logit, &head[token as usize * c..][..c]);
            }
            d_logits
        })
        .collect();
    // Sets are small: adding their rows one after the other costs less than sums of parts as large as the head.
    for (n, d_logits) in rows.zip(&d_logits) {
        for (&token, &d_logit) in problem.allowed.row(n).iter().zip(d_logits) {
            let d_row = &mut d_head.as_mut_slice()[token as usize * c..][..c];
            axpy(d_row, d_logit, problem.hidden_rows(n..n + 1));
        }
    }
}

/// Turns logits over the temperature into the gradient of the loss by the logits themselves.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn logits_backward(logits: &mut [f32], n: usize, target: usize, upstream: &Upstream<'_>, temperature: f32) {
    let (d_logprob, d_entropy) = (upstream.d_logprobs[n], upstream.d_entropy[n]);
    let (entropy, lse) = (upstream.entropy[n], upstream.lse[n]);
    let inverse = 1.0 / temperature;
    for z in logits.iter_mut() {
        let logprob = *z - lse;
        *z = -exp(logprob) * (d_logprob + d_entropy * (logprob + entropy)) * inverse;
    }
    logits[target] += d_logprob * inverse;
}

/// Appends `hidden . head[token]` for each token of `set`.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn products_with(logits: &mut Vec<f32>, hidden: &[f32], head: &[f32], set: &[u32]) {
    let c = hidden.len();
    logits.extend(set.iter().map(|&token| dot(hidden, &head[token as usize * c..][..c])));
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub(crate) fn log_sum_exp(logits: &[f32]) -> f32 {
    let top = max(logits);
    let mut terms = [0.0; 64];
    let mut total = 0.0;
    for chunk in logits.chunks(64) {
        for (term, z) in terms.iter_mut().zip(chunk) {
            *term = exp(z - top);
        }
        total += sum(&terms[..chunk.len()]);
    }
    top + total.ln()
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn entropy_of(logits: &[f32], lse: f32) -> f32 {
    let mut terms = [0.0; 64];
    let mut total = 0.0;
    for chunk in logits.chunks(64) {
        for (term, z) in terms.iter_mut().zip(chunk) {
            *term = exp(z - lse) * (z - lse);
        }
        total += sum(&terms[..chunk.len()]);
    }
    -total
}
