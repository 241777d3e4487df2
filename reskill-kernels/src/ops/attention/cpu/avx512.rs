//! Scores and weighted means by AVX-512: the sums of several rows stay in registers, so a key or value that is read once
//! serves them all.

use std::arch::x86_64::{
    __m512, __mmask16, _mm512_add_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_mul_ps,
    _mm512_set1_ps, _mm512_setzero_ps,
};

use super::attend::{LANES, Piece, Row, Weights};

/// Proof that the processor has the instructions.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    #[inline(always)]
    pub(super) fn detect() -> Option<Avx512> {
        is_x86_feature_detected!("avx512f").then_some(Avx512(()))
    }

    /// See `Vectors::score_piece`.
    ///
    /// # Panics
    /// If a slice is too short for what the arguments name.
    pub(super) fn score_piece<const R: usize>(
        self,
        scores: &mut [f32],
        (stride, done): (usize, usize),
        queries: &[&[f32]; R],
        piece: &Piece<'_>,
        scale: f32,
    ) {
        let head_dim = queries[0].len();
        if piece.range.is_empty() || head_dim == 0 {
            return;
        }
        assert!(queries.iter().all(|query| query.len() == head_dim), "the queries of a head have one length");
        assert!(piece.range.end <= piece.key_stride, "the keys of a piece lie inside its columns");
        assert!(piece.keys.len() >= head_dim * piece.key_stride, "every element of a key has its column");
        assert!(scores.len() >= (R - 1) * stride + done + piece.range.len(), "every key has its score");
        let mut j = piece.range.start;
        while j < piece.range.end {
            let left = piece.range.end - j;
            let done = done + j - piece.range.start;
            // SAFETY: the processor has AVX-512 (`self` proves it). By the asserts above the columns of keys
            // `j .. j + left` and the scores `r * stride + done .. + left` of every row exist; the functions touch no
            // others.
            unsafe {
                j += if left > 3 * LANES {
                    score_block::<4, R>(scores, (stride, done), queries, piece, (j, left), scale)
                } else if left > LANES {
                    score_block::<2, R>(scores, (stride, done), queries, piece, (j, left), scale)
                } else {
                    score_block::<1, R>(scores, (stride, done), queries, piece, (j, left), scale)
                };
            }
        }
    }

    /// See `Vectors::weighted_mean`.
    ///
    /// # Panics
    /// If a slice is too short for what the arguments name.
    pub(super) fn weighted_mean<const R: usize>(
        self,
        out: &mut [f32],
        head_dim: usize,
        rows: &[Row; R],
        weights: &Weights<'_, R>,
        pieces: &[Piece<'_>],
    ) {
        let n_keys: usize = pieces.iter().map(|piece| piece.range.len()).sum();
        for (r, row) in rows.iter().enumerate() {
            assert!(row.n_seen <= n_keys, "a row sees keys of the pieces only");
            // The last keys are weighted for all rows, and then kept for those that see them.
            assert!(r * weights.stride + n_keys <= weights.data.len(), "every key has a weight");
            assert!(row.out + head_dim <= out.len(), "every row has its place");
        }
        for piece in pieces {
            let last = piece.range.end.saturating_sub(1) * piece.value_stride + head_dim;
            assert!(piece.range.is_empty() || last <= piece.values.len(), "every value of a piece exists");
        }
        let mut c = 0;
        while c < head_dim {
            let left = head_dim - c;
            // SAFETY: the processor has AVX-512 (`self` proves it). By the asserts above elements `c .. c + left` of every
            // value and every result exist, and every key has a weight; the functions touch no others.
            unsafe {
                c += if left > LANES {
                    mean_block::<2, R>(out, rows, weights, pieces, (c, left))
                } else {
                    mean_block::<1, R>(out, rows, weights, pieces, (c, left))
                };
            }
        }
    }
}

/// A mask of the lanes `16 v ..` that are among the first `len`.
#[inline(always)]
fn mask(v: usize, len: usize) -> __mmask16 {
    let lanes = len.saturating_sub(v * LANES).min(LANES);
    ((1_u32 << lanes) - 1) as __mmask16
}

/// Scores of the first `16 V` of `left` keys from `first` on, or of all of them if they are fewer; returns `16 V`. Each is
/// summed over the elements in order.
///
/// # Safety
/// The processor has AVX-512. `piece` has columns for keys `first .. first + left` and all elements of the queries;
/// `scores` has `r * stride + done + left` elements for every row `r`.
#[target_feature(enable = "avx512f")]
unsafe fn score_block<const V: usize, const R: usize>(
    scores: &mut [f32],
    (stride, done): (usize, usize),
    queries: &[&[f32]; R],
    piece: &Piece<'_>,
    (first, left): (usize, usize),
    scale: f32,
) -> usize {
    let mut sums = [[_mm512_setzero_ps(); V]; R];
    let mut masks = [0; V];
    for (v, bits) in masks.iter_mut().enumerate() {
        *bits = mask(v, left);
    }
    // SAFETY: masked lanes are not touched, and the others exist by the caller's promise.
    unsafe {
        for c in 0..queries[0].len() {
            let column = piece.keys.as_ptr().add(c * piece.key_stride + first);
            let mut keys = [_mm512_setzero_ps(); V];
            for v in 0..V {
                keys[v] = _mm512_maskz_loadu_ps(masks[v], column.wrapping_add(v * LANES));
            }
            for r in 0..R {
                let q = _mm512_set1_ps(*queries[r].get_unchecked(c));
                for v in 0..V {
                    sums[r][v] = _mm512_add_ps(sums[r][v], _mm512_mul_ps(q, keys[v]));
                }
            }
        }
        let scale = _mm512_set1_ps(scale);
        for (r, sums) in sums.iter().enumerate() {
            let to = scores.as_mut_ptr().add(r * stride + done);
            for v in 0..V {
                _mm512_mask_storeu_ps(to.wrapping_add(v * LANES), masks[v], _mm512_mul_ps(scale, sums[v]));
            }
        }
    }
    V * LANES
}

/// Elements `c .. c + 16 V` of the means, or up to `c + left` if these are fewer; returns `16 V`. Keys are summed in two
/// halves, by turns.
///
/// # Safety
/// The processor has AVX-512. Every value of the pieces and every result has elements `c .. c + left`; rows see keys of the
/// pieces only, and every key has a weight for every row.
#[target_feature(enable = "avx512f")]
unsafe fn mean_block<const V: usize, const R: usize>(
    out: &mut [f32],
    rows: &[Row; R],
    weights: &Weights<'_, R>,
    pieces: &[Piece<'_>],
    (c, left): (usize, usize),
) -> usize {
    let mut even = [[_mm512_setzero_ps(); V]; R];
    let mut odd = even;
    let mut masks = [0; V];
    for (v, bits) in masks.iter_mut().enumerate() {
        *bits = mask(v, left);
    }
    let common = rows.iter().map(|row| row.n_seen).min().unwrap_or(0);
    let mut index = 0;
    // SAFETY: masked lanes are not touched, and the others exist by the caller's promise.
    unsafe {
        for piece in pieces {
            let mut j = piece.range.start;
            // Keys that all rows see, two at a time.
            let end = piece.range.end.min(j + common.saturating_sub(index));
            if index % 2 == 1 && j < end {
                add_value::<V, R>(&mut odd, weights, index, piece, j, c, masks);
                (j, index) = (j + 1, index + 1);
            }
            while j + 2 <= end {
                add_value::<V, R>(&mut even, weights, index, piece, j, c, masks);
                add_value::<V, R>(&mut odd, weights, index + 1, piece, j + 1, c, masks);
                (j, index) = (j + 2, index + 2);
            }
            while j < piece.range.end {
                let sums = if index % 2 == 0 { &mut even } else { &mut odd };
                let mut added = *sums;
                add_value::<V, R>(&mut added, weights, index, piece, j, c, masks);
                for r in 0..R {
                    if index < rows[r].n_seen {
                        sums[r] = added[r];
                    }
                }
                (j, index) = (j + 1, index + 1);
            }
        }
        for r in 0..R {
            let to = out.as_mut_ptr().add(rows[r].out + c);
            let inverse = _mm512_set1_ps(weights.inverse[r]);
            for v in 0..V {
                let mean = _mm512_mul_ps(_mm512_add_ps(even[r][v], odd[r][v]), inverse);
                _mm512_mask_storeu_ps(to.wrapping_add(v * LANES), masks[v], mean);
            }
        }
    }
    V * LANES
}

/// Adds value `j`, weighted, to the sums of all rows.
///
/// # Safety
/// As for [`mean_block`], and every row has a weight for `index`.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn add_value<const V: usize, const R: usize>(
    sums: &mut [[__m512; V]; R],
    weights: &Weights<'_, R>,
    index: usize,
    piece: &Piece<'_>,
    j: usize,
    c: usize,
    masks: [__mmask16; V],
) {
    // SAFETY: value and weights exist by the caller's promise, and masked lanes are not touched.
    unsafe {
        let from = piece.values.as_ptr().add(j * piece.value_stride + c);
        let mut value = [_mm512_setzero_ps(); V];
        for v in 0..V {
            value[v] = _mm512_maskz_loadu_ps(masks[v], from.wrapping_add(v * LANES));
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            let weight = _mm512_set1_ps(*weights.data.get_unchecked(r * weights.stride + index));
            for (sum, value) in sums.iter_mut().zip(value) {
                *sum = _mm512_add_ps(*sum, _mm512_mul_ps(weight, value));
            }
        }
    }
}
