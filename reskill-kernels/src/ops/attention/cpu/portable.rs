//! Scores and weighted means in plain loops, row by row; the compiler turns them into vector code.

use super::attend::{LANES, Piece, Row, Weights};

/// See `Vectors::score_piece`.
#[inline(always)]
pub(super) fn score_piece<const R: usize>(
    scores: &mut [f32],
    (stride, done): (usize, usize),
    queries: &[&[f32]; R],
    piece: &Piece<'_>,
    scale: f32,
) {
    for (r, query) in queries.iter().enumerate() {
        let mut scores = &mut scores[r * stride + done..];
        let mut j = piece.range.start;
        while j < piece.range.end {
            // Several blocks at once hide the latency of the sums; blocks may reach over the end of the range.
            let left = piece.range.end - j;
            let width = if left >= 4 * LANES {
                score_block::<{ 4 * LANES }>(scores, query, piece, j, scale)
            } else if left > LANES && j + 2 * LANES <= piece.key_stride {
                score_block::<{ 2 * LANES }>(scores, query, piece, j, scale)
            } else if j + LANES <= piece.key_stride {
                score_block::<LANES>(scores, query, piece, j, scale)
            } else {
                score_block::<1>(scores, query, piece, j, scale)
            };
            j += width;
            scores = &mut scores[width..];
        }
    }
}

/// Scores of `W` keys from `first` on. Each is summed over the elements in order, whatever `W` is.
#[inline(always)]
fn score_block<const W: usize>(
    scores: &mut [f32],
    query: &[f32],
    piece: &Piece<'_>,
    first: usize,
    scale: f32,
) -> usize {
    let mut sums = [0.0_f32; W];
    for (q, column) in query.iter().zip(piece.keys.chunks(piece.key_stride)) {
        for (sum, key) in sums.iter_mut().zip(&column[first..first + W]) {
            *sum += q * key;
        }
    }
    for (score, sum) in scores[..W].iter_mut().zip(sums) {
        *score = scale * sum;
    }
    W
}

/// See `Vectors::weighted_mean`.
#[inline(always)]
pub(super) fn weighted_mean<const R: usize>(
    out: &mut [f32],
    head_dim: usize,
    rows: &[Row; R],
    weights: &Weights<'_, R>,
    pieces: &[Piece<'_>],
) {
    for (r, row) in rows.iter().enumerate() {
        let out = &mut out[row.out..row.out + head_dim];
        let inverse = weights.inverse[r];
        let weights = &weights.data[r * weights.stride..][..row.n_seen];
        let mut c = 0;
        while c < head_dim {
            c += match head_dim - c {
                32.. => mean_block::<32>(&mut out[c..], weights, pieces, c, inverse),
                16.. => mean_block::<16>(&mut out[c..], weights, pieces, c, inverse),
                8.. => mean_block::<8>(&mut out[c..], weights, pieces, c, inverse),
                _ => mean_block::<1>(&mut out[c..], weights, pieces, c, inverse),
            };
        }
    }
}

/// Elements `c .. c + W` of the mean of one row.
#[inline(always)]
fn mean_block<const W: usize>(
    out: &mut [f32],
    weights: &[f32],
    pieces: &[Piece<'_>],
    c: usize,
    inverse: f32,
) -> usize {
    let (mut even, mut odd) = ([0.0_f32; W], [0.0_f32; W]);
    let mut index = 0;
    for piece in pieces {
        let add = |sums: &mut [f32; W], index: usize, j: usize| {
            for (sum, value) in sums.iter_mut().zip(&piece.values[j * piece.value_stride + c..][..W]) {
                *sum += weights[index] * value;
            }
        };
        let mut j = piece.range.start;
        let end = piece.range.end.min(j + weights.len() - index);
        if index % 2 == 1 && j < end {
            add(&mut odd, index, j);
            (j, index) = (j + 1, index + 1);
        }
        while j + 2 <= end {
            add(&mut even, index, j);
            add(&mut odd, index + 1, j + 1);
            (j, index) = (j + 2, index + 2);
        }
        if j < end {
            add(&mut even, index, j);
            index += 1;
        }
    }
    for ((out, even), odd) in out[..W].iter_mut().zip(even).zip(odd) {
        *out = (even + odd) * inverse;
    }
    W
}
