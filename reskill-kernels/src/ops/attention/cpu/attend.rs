//! Attention of a few rows of one head to the keys they share: scores, softmax, weighted mean.
//!
//! What a row computes does not depend on the rows that are computed with it, nor on where its keys lie: a score sums
//! the elements of a key in order, the softmax sums its keys in the order of [`sum`], the mean sums them in two halves,
//! even and odd.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::avx512::Avx512;
use super::portable;
use crate::simd::{exp, max, sum};

/// Keys whose scores are computed side by side at the least.
pub(super) const LANES: usize = 16;
/// The most rows that are computed together: their sums stay in registers.
pub(super) const MAX_ROWS: usize = 4;

/// A run of keys and values of one head.
#[derive(Debug, Clone)]
pub(super) struct Piece<'a> {
    /// Element `c` of key `j` is `keys[c * key_stride + j]`: transposed, so that many scores are computed side by side.
    pub(super) keys: &'a [f32],
    pub(super) key_stride: usize,
    /// Element `c` of value `j` is `values[j * value_stride + c]`.
    pub(super) values: &'a [f32],
    pub(super) value_stride: usize,
    /// The `j` that belong to the run.
    pub(super) range: Range<usize>,
}

/// One row of one head.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Row {
    /// Where its query begins.
    pub(super) query: usize,
    /// Where its result goes.
    pub(super) out: usize,
    /// How many keys, counted over the pieces, it sees.
    pub(super) n_seen: usize,
}

/// At most [`MAX_ROWS`] rows over the pieces; the log-sum-exp of the scores of each.
///
/// - `out`, `queries`: those of all rows, `head_dim` elements at the places that [`Row`] names
/// - `scores`: memory to work in
#[inline(always)]
pub(super) fn attend(
    out: &mut [f32],
    queries: &[f32],
    head_dim: usize,
    rows: &[Row],
    pieces: &[Piece<'_>],
    scores: &mut Vec<f32>,
) -> [f32; MAX_ROWS] {
    let mut lse = [0.0; MAX_ROWS];
    match *rows {
        [] => {}
        [a] => lse[..1].copy_from_slice(&attend_rows(out, queries, head_dim, &[a], pieces, scores)),
        [a, b] => lse[..2].copy_from_slice(&attend_rows(out, queries, head_dim, &[a, b], pieces, scores)),
        [a, b, c] => {
            lse[..3].copy_from_slice(&attend_rows(out, queries, head_dim, &[a, b, c], pieces, scores));
        }
        [a, b, c, d, ..] => lse = attend_rows(out, queries, head_dim, &[a, b, c, d], pieces, scores),
    }
    lse
}

/// `R` rows over the pieces.
#[inline(always)]
fn attend_rows<const R: usize>(
    out: &mut [f32],
    queries: &[f32],
    head_dim: usize,
    rows: &[Row; R],
    pieces: &[Piece<'_>],
    scores: &mut Vec<f32>,
) -> [f32; R] {
    let scale = 1.0 / (head_dim as f32).sqrt();
    let n_keys: usize = pieces.iter().map(|piece| piece.range.len()).sum();
    // Blocks of scores may reach over the end.
    let stride = n_keys + 2 * LANES;
    scores.resize(R * stride, 0.0);
    let queries: [&[f32]; R] = rows.map(|row| &queries[row.query..row.query + head_dim]);
    let vectors = Vectors::of_this_processor();
    let mut done = 0;
    for piece in pieces {
        vectors.score_piece(scores, (stride, done), &queries, piece, scale);
        done += piece.range.len();
    }
    let mut lse = [0.0; R];
    let mut inverse = [0.0; R];
    for r in 0..R {
        let scores = &mut scores[r * stride..][..rows[r].n_seen];
        let top = max(scores);
        for score in scores.iter_mut() {
            *score = exp(*score - top);
        }
        let total = sum(scores);
        inverse[r] = 1.0 / total;
        lse[r] = top + total.ln();
    }
    let weights = Weights { data: scores, stride, inverse };
    vectors.weighted_mean(out, head_dim, rows, &weights, pieces);
    lse
}

/// Weights of the values, not yet divided by their sums.
pub(super) struct Weights<'a, const R: usize> {
    /// (R, stride)
    pub(super) data: &'a [f32],
    pub(super) stride: usize,
    /// 1 / sum of each row.
    pub(super) inverse: [f32; R],
}

/// The instructions that scores and means are computed with. Both give the same bits.
#[derive(Clone, Copy)]
enum Vectors {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Vectors {
    #[inline(always)]
    fn of_this_processor() -> Vectors {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx512) = Avx512::detect() {
            return Vectors::Avx512(avx512);
        }
        Vectors::Portable
    }

    /// `scores[r * stride + done + j] = scale * query_r . key_j` for the keys of a piece; up to `2 LANES` scores behind
    /// the last one may be overwritten too.
    #[inline(always)]
    fn score_piece<const R: usize>(
        self,
        scores: &mut [f32],
        (stride, done): (usize, usize),
        queries: &[&[f32]; R],
        piece: &Piece<'_>,
        scale: f32,
    ) {
        match self {
            Vectors::Portable => portable::score_piece(scores, (stride, done), queries, piece, scale),
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx512(avx512) => avx512.score_piece(scores, (stride, done), queries, piece, scale),
        }
    }

    /// The weighted means of the values, for all elements of a head.
    #[inline(always)]
    fn weighted_mean<const R: usize>(
        self,
        out: &mut [f32],
        head_dim: usize,
        rows: &[Row; R],
        weights: &Weights<'_, R>,
        pieces: &[Piece<'_>],
    ) {
        match self {
            Vectors::Portable => portable::weighted_mean(out, head_dim, rows, weights, pieces),
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx512(avx512) => avx512.weighted_mean(out, head_dim, rows, weights, pieces),
        }
    }
}
