//! Fused log-probabilities on the CPU. A row with an allowed set computes only the logits of that set. Rows without are
//! multiplied by the head in tiles of [`TILE`] tokens, so that the logits of a few tiles are all that is ever held.

pub(crate) mod backward;
pub(crate) mod forward;

use std::ops::Range;

use multiversion::multiversion;

use super::TokenSets;
use crate::ops::matmul::cpu as matmul;
use crate::ops::matmul::cpu::Prepared;
use crate::ops::packed_matmul::PackedWeight;
use crate::panels::{Matrix, MatrixMut, Packed};
use crate::simd::{dot, exp, max, sum};
use crate::tensor::Tensor;

/// Rows with a set that one task takes at once.
pub(crate) const BLOCK: usize = 32;
/// Rows without a set that one task multiplies with a tile.
pub(crate) const TILE_ROWS: usize = 128;
/// Tokens of the vocabulary in one tile. Part of the numerical definition: statistics of a row are joined tile by tile.
pub(crate) const TILE: usize = 1024;
/// Rows without a set that are worked on at once, all tiles of them: bounds memory.
pub(crate) const DENSE_ROWS: usize = 1024;

/// What both passes read.
pub(crate) struct Problem<'a> {
    pub(crate) hidden: &'a Tensor,
    pub(crate) head: &'a Tensor,
    pub(crate) allowed: &'a TokenSets,
    pub(crate) temperature: f32,
}

impl Problem<'_> {
    /// Calls `f(n, logits)` for each of the rows `first..first + n_rows` with its logits over the temperature: of its
    /// allowed tokens in their order, or of the whole vocabulary. Holds all logits of [`BLOCK`] rows.
    pub(crate) fn for_each_row(&self, first: usize, n_rows: usize, mut f: impl FnMut(usize, &mut [f32])) {
        let vocab_size = self.head.rows();
        let (mut logits, mut part) = (Vec::new(), Vec::new());
        for run in self.runs(first..first + n_rows, BLOCK) {
            if self.is_dense(run.start) {
                logits.resize(run.len() * vocab_size, 0.0);
                for tile in tiles(vocab_size, TILE) {
                    self.tile_logits(&mut part, run.clone(), tile.clone());
                    let rows = logits.chunks_exact_mut(vocab_size).zip(part.chunks_exact(tile.len()));
                    rows.for_each(|(row, part)| row[tile.clone()].copy_from_slice(part));
                }
                for (n, logits) in run.zip(logits.chunks_exact_mut(vocab_size)) {
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

    /// Log-sum-exp of all logits of row `n`, as the forward pass computes it.
    pub(crate) fn log_sum_exp(&self, n: usize, logits: &[f32]) -> f32 {
        if !self.is_dense(n) {
            return log_sum_exp(logits);
        }
        let mut joined = forward::Joined::default();
        for tile in tiles(logits.len(), TILE) {
            joined.add(forward::TileStatistics::of(&logits[tile], None));
        }
        joined.lse()
    }

    /// The token that stands at `index` of row `n`'s logits.
    pub(crate) fn token_at(&self, n: usize, index: usize) -> u32 {
        self.allowed.row(n).get(index).copied().unwrap_or(index as u32)
    }

    /// Where `token` stands in row `n`'s logits.
    pub(crate) fn index_of(&self, n: usize, token: u32) -> usize {
        self.allowed.row(n).iter().position(|&id| id == token).unwrap_or(token as usize)
    }

    /// Whether row `n` allows the whole vocabulary.
    pub(crate) fn is_dense(&self, n: usize) -> bool {
        self.allowed.row(n).is_empty()
    }

    /// Cuts rows into runs that are all dense, of at most `longest`, or all not.
    pub(crate) fn runs(&self, rows: Range<usize>, longest: usize) -> impl Iterator<Item = Range<usize>> {
        let mut start = rows.start;
        std::iter::from_fn(move || {
            let dense = (start < rows.end).then(|| self.is_dense(start))?;
            let limit = if dense { rows.end.min(start.saturating_add(longest)) } else { rows.end };
            let end = (start..limit).find(|&n| self.is_dense(n) != dense).unwrap_or(limit);
            Some(std::mem::replace(&mut start, end)..end)
        })
    }

    pub(crate) fn hidden_rows(&self, rows: Range<usize>) -> &[f32] {
        let c = self.hidden.row_len();
        &self.hidden.as_slice()[rows.start * c..rows.end * c]
    }

    /// The rows of the head that belong to the tokens of `tile`.
    pub(crate) fn head_rows(&self, tile: Range<usize>) -> &[f32] {
        let c = self.head.row_len();
        &self.head.as_slice()[tile.start * c..tile.end * c]
    }

    /// A tile of the head, laid out for many blocks of rows.
    pub(crate) fn prepare<'a>(&'a self, room: &'a mut Packed, tile: Range<usize>) -> Prepared<'a> {
        let (n_tokens, c) = (tile.len(), self.head.row_len());
        Prepared::new(room, Matrix::row_major(self.head_rows(tile), n_tokens, c).transposed())
    }

    /// (rows, tile): logits over the temperature, with the tile prepared before. The same bits as [`Self::tile_logits`].
    pub(crate) fn prepared_logits(&self, logits: &mut [f32], rows: Range<usize>, tile: &Prepared<'_>) {
        let (n, c) = (rows.len(), self.head.row_len());
        let out = MatrixMut::row_major(logits, n, logits.len() / n.max(1));
        tile.product(out, Matrix::row_major(self.hidden_rows(rows), n, c));
        self.divide_by_temperature(logits);
    }

    /// (rows, tile): logits over the temperature, with the head in panels. Of panels in f32 the same bits as
    /// [`Self::logits`], where the processor multiplies by panels.
    pub(crate) fn packed_logits(
        &self,
        logits: &mut [f32],
        rows: Range<usize>,
        head: &PackedWeight,
        tile: Range<usize>,
    ) {
        let (n, c) = (rows.len(), self.head.row_len());
        let out = MatrixMut::row_major(logits, n, tile.len());
        head.product(out, Matrix::row_major(self.hidden_rows(rows), n, c), tile.start);
        self.divide_by_temperature(logits);
    }

    /// (rows, tile): logits over the temperature, of which `logits` is made as long as it must be.
    pub(crate) fn tile_logits(&self, logits: &mut Vec<f32>, rows: Range<usize>, tile: Range<usize>) {
        logits.resize(rows.len() * tile.len(), 0.0);
        self.logits(logits, rows, tile);
    }

    /// (rows, tile): logits over the temperature.
    pub(crate) fn logits(&self, logits: &mut [f32], rows: Range<usize>, tile: Range<usize>) {
        let (n_tokens, c) = (tile.len(), self.head.row_len());
        matmul::forward(logits, self.hidden_rows(rows), self.head_rows(tile), n_tokens, c, false);
        self.divide_by_temperature(logits);
    }

    fn divide_by_temperature(&self, logits: &mut [f32]) {
        if self.temperature != 1.0 {
            logits.iter_mut().for_each(|logit| *logit /= self.temperature);
        }
    }

    /// Appends the logits of row `n`'s set.
    pub(crate) fn set_logits(&self, logits: &mut Vec<f32>, n: usize) {
        products_with(logits, self.hidden_rows(n..n + 1), self.head.as_slice(), self.allowed.row(n));
        self.divide_by_temperature(logits);
    }
}

/// Cuts `0..len` into ranges of `width`, the last one shorter.
pub(crate) fn tiles(len: usize, width: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(width).map(move |start| start..len.min(start + width))
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
