//! Drawing tokens from logits, with the usual truncations of the distribution.

use rayon::prelude::*;

use super::inversion::{arg_max, draw_from_all};
use crate::device::Device;
use crate::error::{KernelError, check_range, check_shape};
use crate::ops::linear_logprob::cpu::log_sum_exp;
use crate::tensor::Tensor;

const OP: &str = "sample_logits";
/// Candidates that are sorted at first when `top_p` has to look for the end of its set.
const FIRST_SORTED: usize = 256;

/// The distribution that a token is drawn from, as a function of the logits.
///
/// Applied in this order, as in Hugging Face's `transformers`: `temperature`, `top_k`, `top_p` (of what `top_k` leaves,
/// renormalised), `min_p`. Of equal logits the smaller token comes first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingFilter {
    /// Divides the logits, >= 0; with 0 the likeliest token is taken, whatever the rest says.
    pub temperature: f32,
    /// Keeps that many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the fewest likeliest tokens whose probabilities add up to this or more, in 0..=1; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens of at least this times the largest probability, in 0..=1; 0 keeps all.
    pub min_p: f32,
}

impl Default for SamplingFilter {
    /// The untouched distribution.
    fn default() -> SamplingFilter {
        SamplingFilter { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 }
    }
}

impl SamplingFilter {
    fn check(&self, op: &'static str) -> Result<(), KernelError> {
        let finite = self.temperature.is_finite() && self.temperature >= 0.0;
        check_range(finite, op, "temperature", self.temperature, ">= 0 and finite")?;
        check_range((0.0..=1.0).contains(&self.top_p), op, "top_p", self.top_p, "0 to 1")?;
        check_range((0.0..=1.0).contains(&self.min_p), op, "min_p", self.min_p, "0 to 1")
    }

    fn truncates(&self, vocab: usize) -> bool {
        (self.top_k > 0 && self.top_k < vocab) || self.top_p < 1.0 || self.min_p > 0.0
    }
}

/// A token drawn from a row of logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampledToken {
    /// The token.
    pub token: u32,
    /// Its log-probability under `softmax(logits)`: no temperature, no truncation.
    pub logprob: f32,
    /// Its log-probability under the distribution it was drawn from; 0 where there was no choice.
    pub sampling_logprob: f32,
}

/// Draws one token a row, by inversion of the cumulative distribution at `uniforms[n]`. Rows do not influence each other.
///
/// - `logits`: (N, V) f32, or bf16 on a CUDA device
/// - `filters`: (N)
/// - `uniforms`: (N) in 0..1
/// - result: (N)
///
/// # Errors
/// [`KernelError::Shape`]; [`KernelError::Range`] for a filter out of range, an empty vocabulary, or a row with a NaN, an
/// infinite logit or none above minus infinity.
pub fn sample_logits(
    logits: &Tensor,
    filters: &[SamplingFilter],
    uniforms: &[f32],
) -> Result<Vec<SampledToken>, KernelError> {
    let vocab = logits.row_len();
    check_shape(OP, "filters", &[filters.len()], &[logits.rows()])?;
    check_shape(OP, "uniforms", &[uniforms.len()], &[logits.rows()])?;
    check_range(vocab > 0 || filters.is_empty(), OP, "V", vocab, ">= 1")?;
    filters.iter().try_for_each(|filter| filter.check(OP))?;
    if filters.is_empty() {
        return Ok(Vec::new());
    }
    match logits.place() {
        Device::Cpu => sample_rows(logits.as_slice(), vocab, filters, uniforms),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => super::logits_cuda::sample(device, logits, filters, uniforms),
    }
}

fn sample_rows(
    logits: &[f32],
    vocab: usize,
    filters: &[SamplingFilter],
    uniforms: &[f32],
) -> Result<Vec<SampledToken>, KernelError> {
    logits
        .par_chunks_exact(vocab)
        .zip(filters)
        .zip(uniforms)
        .map(|((row, filter), &uniform)| {
            let lse = log_sum_exp(row);
            check_lse(lse)?;
            Ok(sample_row(row, lse, filter, uniform))
        })
        .collect()
}

/// A row of logits has a distribution if its log-sum-exp is finite.
pub(super) fn check_lse(lse: f32) -> Result<(), KernelError> {
    check_range(lse.is_finite(), OP, "log-sum-exp of a row of logits", lse, "a finite number")
}

fn sample_row(logits: &[f32], lse: f32, filter: &SamplingFilter, uniform: f32) -> SampledToken {
    let best = arg_max(logits);
    let (index, sampling_logprob) = if filter.temperature == 0.0 {
        (best, 0.0)
    } else if filter.truncates(logits.len()) {
        // Probabilities relative to the largest, in f64: their sums decide which token a uniform number means.
        let weight =
            |index: usize| (f64::from(logits[index] - logits[best]) / f64::from(filter.temperature)).exp();
        draw(&likeliest(logits, filter, weight), weight, uniform)
    } else {
        draw_from_all(logits, best, filter.temperature, uniform)
    };
    SampledToken { token: index as u32, logprob: logits[index] - lse, sampling_logprob }
}

/// One of `kept`, and its log-probability among them.
fn draw(kept: &[usize], weight: impl Fn(usize) -> f64, uniform: f32) -> (usize, f32) {
    let total: f64 = kept.iter().map(|&index| weight(index)).sum();
    let mut cumulative = 0.0;
    // Rounding can leave the sum below the target; then the last token with a probability is meant.
    let mut drawn = kept[0];
    for &index in kept {
        let w = weight(index);
        if w > 0.0 {
            drawn = index;
        }
        cumulative += w;
        if f64::from(uniform) * total < cumulative {
            break;
        }
    }
    (drawn, (weight(drawn) / total).ln() as f32)
}

/// The tokens that a filter keeps, likeliest first.
fn likeliest(logits: &[f32], filter: &SamplingFilter, weight: impl Fn(usize) -> f64) -> Vec<usize> {
    let order = |&a: &usize, &b: &usize| logits[b].total_cmp(&logits[a]).then(a.cmp(&b));
    let mut candidates: Vec<usize> = (0..logits.len()).collect();
    if filter.top_k > 0 && filter.top_k < candidates.len() {
        candidates.select_nth_unstable_by(filter.top_k - 1, order);
        candidates.truncate(filter.top_k);
    }
    let goal = if filter.top_p < 1.0 {
        // The fixed order of the sum makes the result that of any other way to find the candidates.
        candidates.sort_unstable();
        f64::from(filter.top_p) * candidates.iter().map(|&index| weight(index)).sum::<f64>()
    } else {
        f64::INFINITY
    };
    if filter.min_p > 0.0 {
        candidates.retain(|&index| weight(index) >= f64::from(filter.min_p));
    }
    // Sorts no more than needed: the set of `top_p` is small as a rule.
    let mut sorted = 0;
    let mut block = FIRST_SORTED;
    let (mut cumulative, mut n) = (0.0, 0);
    while n < candidates.len() {
        if n == sorted {
            let rest = &mut candidates[sorted..];
            let len = block.min(rest.len());
            if len < rest.len() {
                rest.select_nth_unstable_by(len - 1, order);
            }
            rest[..len].sort_unstable_by(order);
            sorted += len;
            block *= 8;
        }
        cumulative += weight(candidates[n]);
        n += 1;
        if cumulative >= goal {
            break;
        }
    }
    candidates.truncate(n);
    candidates
}
