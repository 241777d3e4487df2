//! The backward pass: products of blocks of rows, one task a sequence and key-value head.

use multiversion::multiversion;
use rayon::prelude::*;

use super::{ROWS, Sequence, split_rows, split_sequences};
use crate::ops::attention::{AttentionShape, PackedSegment};
use crate::ops::matmul::cpu::product;
use crate::panels::{Matrix, MatrixMut};
use crate::simd::{dot, exp};
use crate::tensor::Tensor;

pub(in crate::ops::attention) fn backward(
    d_qkv: &mut Tensor,
    d_out: &Tensor,
    out: &Tensor,
    lse: &Tensor,
    qkv: &Tensor,
    segments: &[PackedSegment],
    shape: AttentionShape,
) {
    let sequences = split_sequences(segments);
    let d_qkvs = split_rows(d_qkv.as_mut_slice(), &sequences, shape.qkv_width());
    sequences.par_iter().zip(d_qkvs).for_each(|(sequence, d_qkv)| {
        let saved = Saved {
            d_out: sequence.of(d_out),
            out: sequence.of(out),
            lse: sequence.of(lse),
            qkv: sequence.of(qkv),
        };
        let heads: Vec<Vec<f32>> = (0..shape.n_kv_heads)
            .into_par_iter()
            .map(|kv_head| backward_head(kv_head, &saved, sequence, shape))
            .collect();
        gather_heads(d_qkv, &heads, shape);
    });
}

/// What the forward pass kept of one sequence, and the gradient of its result.
struct Saved<'a> {
    d_out: &'a [f32],
    out: &'a [f32],
    lse: &'a [f32],
    qkv: &'a [f32],
}

/// Gradients of one key-value head and its query heads: per row those of the queries, then key, then value.
fn backward_head(kv_head: usize, saved: &Saved<'_>, sequence: &Sequence, shape: AttentionShape) -> Vec<f32> {
    let (d, width, out_width) = (shape.head_dim, shape.qkv_width(), shape.out_width());
    let group = shape.n_heads / shape.n_kv_heads;
    let grad_width = (group + 2) * d;
    let mut grad = vec![0.0; sequence.len * grad_width];
    let (mut weights, mut d_scores) = (Vec::new(), Vec::new());
    let blocks = sequence.segments.iter().flat_map(|segment| {
        (0..segment.len).step_by(ROWS).map(move |first| (segment, first, ROWS.min(segment.len - first)))
    });
    for (segment, first, n_rows) in blocks {
        let row = segment.start + first;
        let prefix = (segment.prefix_start, segment.prefix_len, None);
        let own = (segment.start, first + n_rows, Some(first));
        for head in kv_head * group..(kv_head + 1) * group {
            let query = &saved.qkv[row * width + head * d..];
            let d_out = &saved.d_out[row * out_width + head * d..];
            for (start, n_keys, causal) in [prefix, own] {
                if n_keys == 0 {
                    continue;
                }
                let key = &saved.qkv[start * width + out_width + kv_head * d..];
                let value = &key[shape.kv_width()..];
                weights.resize(n_rows * n_keys, 0.0);
                d_scores.resize(n_rows * n_keys, 0.0);
                let (query, d_out) = (
                    Matrix::new(query, (n_rows, d), (width, 1)),
                    Matrix::new(d_out, (n_rows, d), (out_width, 1)),
                );
                let key = Matrix::new(key, (n_keys, d), (width, 1));
                let value = Matrix::new(value, (n_keys, d), (width, 1));
                let scores = |data| MatrixMut::row_major(data, n_rows, n_keys);
                product(scores(&mut weights), query, key.transposed(), false);
                product(scores(&mut d_scores), d_out, value.transposed(), false);
                softmax_backward(&mut weights, &mut d_scores, n_keys, (row, head), causal, saved, shape);
                let weights = Matrix::row_major(&weights, n_rows, n_keys);
                let d_scores = Matrix::row_major(&d_scores, n_rows, n_keys);
                let mut add = |at: usize, left: Matrix<'_>, right| {
                    let grad = MatrixMut::new(&mut grad[at..], (left.rows(), d), grad_width);
                    product(grad, left, right, true);
                };
                add(row * grad_width + (head - kv_head * group) * d, d_scores, key);
                add(start * grad_width + group * d, d_scores.transposed(), query);
                add(start * grad_width + (group + 1) * d, weights.transposed(), d_out);
            }
        }
    }
    grad
}

/// Turns the scores of a block into probabilities, and their gradients into those of the scores; both unscaled. Row `t`
/// of the block is row `row + t` of the sequence; if `causal` is given it sees the keys up to `causal + t` only.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn softmax_backward(
    weights: &mut [f32],
    d_scores: &mut [f32],
    n_keys: usize,
    (row, head): (usize, usize),
    causal: Option<usize>,
    saved: &Saved<'_>,
    shape: AttentionShape,
) {
    let (d, out_width) = (shape.head_dim, shape.out_width());
    let scale = 1.0 / (d as f32).sqrt();
    let rows = weights.chunks_exact_mut(n_keys).zip(d_scores.chunks_exact_mut(n_keys));
    for (t, (weights, d_scores)) in rows.enumerate() {
        let at = (row + t) * out_width + head * d;
        let delta = dot(&saved.d_out[at..at + d], &saved.out[at..at + d]);
        let lse = saved.lse[(row + t) * shape.n_heads + head];
        let n_seen = causal.map_or(n_keys, |first| first + t + 1);
        for (weight, d_score) in weights[..n_seen].iter_mut().zip(&mut d_scores[..n_seen]) {
            *weight = exp(scale * *weight - lse);
            *d_score = scale * *weight * (*d_score - delta);
        }
        weights[n_seen..].fill(0.0);
        d_scores[n_seen..].fill(0.0);
    }
}

/// Lays the gradients of all heads into rows of queries, keys and values.
fn gather_heads(d_qkv: &mut [f32], heads: &[Vec<f32>], shape: AttentionShape) {
    let (d, group) = (shape.head_dim, shape.n_heads / shape.n_kv_heads);
    for (n, row) in d_qkv.chunks_exact_mut(shape.qkv_width()).enumerate() {
        let (queries, keys_values) = row.split_at_mut(shape.out_width());
        let (keys, values) = keys_values.split_at_mut(shape.kv_width());
        for (kv_head, grad) in heads.iter().enumerate() {
            let grad = &grad[n * (group + 2) * d..(n + 1) * (group + 2) * d];
            queries[kv_head * group * d..][..group * d].copy_from_slice(&grad[..group * d]);
            keys[kv_head * d..][..d].copy_from_slice(&grad[group * d..(group + 1) * d]);
            values[kv_head * d..][..d].copy_from_slice(&grad[(group + 1) * d..]);
        }
    }
}
