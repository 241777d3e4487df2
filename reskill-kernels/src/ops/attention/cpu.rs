//! Attention on the CPU.
//!
//! Forward, packed or cached: one row of one head at a time, always by [`attend`]. Keys are read transposed, so that the
//! scores of many keys are computed side by side; the arithmetic of a score, and the order in which visible keys are
//! summed, do not depend on where the keys lie. Backward: products of blocks of rows, one task a sequence and key-value
//! head.

use std::ops::Range;

use multiversion::multiversion;
use rayon::prelude::*;

use super::{AttentionShape, CachedSpan, PackedSegment};
use crate::ops::matmul::cpu::product;
use crate::simd::{dot, exp, max, sum};
use crate::tensor::Tensor;

/// Rows that one task of the forward pass, or one product of the backward pass, takes at once.
const ROWS: usize = 64;
/// Keys whose scores are computed side by side at the least.
const LANES: usize = 16;

/// Keys of one head, transposed: element `c` of key `j` is `columns[c * stride + j]`.
#[derive(Clone, Copy)]
struct Keys<'a> {
    columns: &'a [f32],
    stride: usize,
}

/// Values of one head: element `c` of value `j` is `rows[j * stride + c]`.
#[derive(Clone, Copy)]
struct Values<'a> {
    rows: &'a [f32],
    stride: usize,
}

/// The segments of one sequence, with rows counted from the start of the sequence.
struct Sequence {
    start: usize,
    len: usize,
    segments: Vec<PackedSegment>,
}

impl Sequence {
    /// This sequence's part of a tensor over the rows of the batch.
    fn of<'a>(&self, rows: &'a Tensor) -> &'a [f32] {
        let width = rows.row_len();
        &rows.as_slice()[self.start * width..(self.start + self.len) * width]
    }
}

pub(super) fn forward(
    out: &mut Tensor,
    lse: &mut Tensor,
    qkv: &Tensor,
    segments: &[PackedSegment],
    shape: AttentionShape,
) {
    let sequences = split_sequences(segments);
    let outs = split_rows(out.as_mut_slice(), &sequences, shape.out_width());
    let lses = split_rows(lse.as_mut_slice(), &sequences, shape.n_heads);
    sequences.par_iter().zip(outs).zip(lses).for_each(|((sequence, out), lse)| {
        let qkv = sequence.of(qkv);
        // Room to read a whole block of keys from any row on.
        let stride = sequence.len.next_multiple_of(LANES) + LANES;
        let mut keys = vec![0.0; shape.kv_width() * stride];
        transpose_keys(&mut keys, stride, qkv, shape);
        out.par_chunks_mut(ROWS * shape.out_width())
            .zip(lse.par_chunks_mut(ROWS * shape.n_heads))
            .enumerate()
            .for_each(|(block, (out, lse))| {
                forward_rows(out, lse, block * ROWS, qkv, (&keys, stride), &sequence.segments, shape);
            });
    });
}

pub(super) fn backward(
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

pub(super) fn append(
    keys: &mut Tensor,
    values: &mut Tensor,
    qkv: &Tensor,
    spans: &[CachedSpan],
    shape: AttentionShape,
) {
    let (capacity, kv_width, width) = (values.shape()[1], shape.kv_width(), shape.qkv_width());
    let key_offset = shape.out_width();
    for span in spans {
        let slot = span.slot * capacity * kv_width;
        for t in 0..span.len {
            let row = &qkv.as_slice()[(span.row + t) * width..][..width];
            let columns = &mut keys.as_mut_slice()[slot + span.position + t..];
            for (to, key) in columns.iter_mut().step_by(capacity).zip(&row[key_offset..key_offset + kv_width])
            {
                *to = *key;
            }
            let to = slot + (span.position + t) * kv_width;
            values.as_mut_slice()[to..to + kv_width].copy_from_slice(&row[key_offset + kv_width..]);
        }
    }
}

pub(super) fn forward_cached(
    out: &mut Tensor,
    qkv: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    spans: &[CachedSpan],
    shape: AttentionShape,
) {
    let capacity = values.shape()[1];
    let mut outs = Vec::with_capacity(spans.len());
    let mut rest = out.as_mut_slice();
    for span in spans {
        let (rows, after) = rest.split_at_mut(span.len * shape.out_width());
        outs.push(rows);
        rest = after;
    }
    spans.par_iter().zip(outs).for_each(|(span, out)| {
        let slot = span.slot * capacity * shape.kv_width()..(span.slot + 1) * capacity * shape.kv_width();
        let keys = Keys { columns: &keys.as_slice()[slot.clone()], stride: capacity };
        let values = Values { rows: &values.as_slice()[slot], stride: shape.kv_width() };
        let queries = &qkv.as_slice()[span.row * shape.qkv_width()..];
        cached_span(out, &queries[..span.len * shape.qkv_width()], keys, values, span.position, shape);
    });
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn cached_span(
    out: &mut [f32],
    qkv: &[f32],
    keys: Keys<'_>,
    values: Values<'_>,
    position: usize,
    shape: AttentionShape,
) {
    let d = shape.head_dim;
    let mut scores = Vec::new();
    let rows = out.chunks_exact_mut(shape.out_width()).zip(qkv.chunks_exact(shape.qkv_width()));
    for (t, (out, row)) in rows.enumerate() {
        let seen = 0..position + t + 1;
        for (head, (out, query)) in out.chunks_exact_mut(d).zip(row.chunks_exact(d)).enumerate() {
            let offset = kv_head_of(head, shape) * d;
            let keys = Keys { columns: &keys.columns[offset * keys.stride..], ..keys };
            let values = Values { rows: &values.rows[offset..], ..values };
            attend(out, query, keys, values, std::slice::from_ref(&seen), &mut scores);
        }
    }
}

/// Transposes the keys of a sequence: (K D, `stride`), of which the first columns are filled.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn transpose_keys(keys: &mut [f32], stride: usize, qkv: &[f32], shape: AttentionShape) {
    let (width, key_offset) = (shape.qkv_width(), shape.out_width());
    // Blocks of rows, so that what is written stays in the nearest cache.
    for (block, rows) in qkv.chunks(LANES * width).enumerate() {
        for (c, column) in keys.chunks_exact_mut(stride).enumerate() {
            let to = &mut column[block * LANES..];
            for (to, row) in to.iter_mut().zip(rows.chunks_exact(width)) {
                *to = row[key_offset + c];
            }
        }
    }
}

/// Rows `first..` of a sequence, as many as `lse` has.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn forward_rows(
    out: &mut [f32],
    lse: &mut [f32],
    first: usize,
    qkv: &[f32],
    (keys, stride): (&[f32], usize),
    segments: &[PackedSegment],
    shape: AttentionShape,
) {
    let (d, width) = (shape.head_dim, shape.qkv_width());
    let mut scores = Vec::new();
    let mut segment_idx = segments.partition_point(|segment| segment.start + segment.len <= first);
    let rows = out.chunks_exact_mut(shape.out_width()).zip(lse.chunks_exact_mut(shape.n_heads));
    for (i, (out, lse)) in rows.enumerate().map(|(t, row)| (first + t, row)) {
        if i >= segments[segment_idx].start + segments[segment_idx].len {
            segment_idx += 1;
        }
        let segment = segments[segment_idx];
        let seen = [segment.prefix_start..segment.prefix_start + segment.prefix_len, segment.start..i + 1];
        for (head, (out, lse)) in out.chunks_exact_mut(d).zip(lse).enumerate() {
            let query = &qkv[i * width + head * d..][..d];
            let offset = kv_head_of(head, shape) * d;
            let keys = Keys { columns: &keys[offset * stride..], stride };
            let values =
                Values { rows: &qkv[shape.out_width() + shape.kv_width() + offset..], stride: width };
            *lse = attend(out, query, keys, values, &seen, &mut scores);
        }
    }
}

/// One row of one head over the keys of `seen`; returns the log-sum-exp of its scores.
#[inline(always)]
fn attend(
    out: &mut [f32],
    query: &[f32],
    keys: Keys<'_>,
    values: Values<'_>,
    seen: &[Range<usize>],
    scores: &mut Vec<f32>,
) -> f32 {
    let scale = 1.0 / (query.len() as f32).sqrt();
    let n_seen = seen.iter().map(ExactSizeIterator::len).sum();
    // Blocks of scores may reach over the end.
    scores.resize(n_seen + 2 * LANES, 0.0);
    let mut done = 0;
    for range in seen {
        score_range(&mut scores[done..], query, keys, range.clone(), scale);
        done += range.len();
    }
    let scores = &mut scores[..n_seen];
    let top = max(scores);
    for score in scores.iter_mut() {
        *score = exp(*score - top);
    }
    let total = sum(scores);
    let inverse = 1.0 / total;
    let mut c = 0;
    while c < out.len() {
        let values = Values { rows: &values.rows[c..], ..values };
        let width = match out.len() - c {
            32.. => weighted_mean::<32>(&mut out[c..], scores, values, seen, inverse),
            16.. => weighted_mean::<16>(&mut out[c..], scores, values, seen, inverse),
            8.. => weighted_mean::<8>(&mut out[c..], scores, values, seen, inverse),
            _ => weighted_mean::<1>(&mut out[c..], scores, values, seen, inverse),
        };
        c += width;
    }
    top + total.ln()
}

/// `scores[j] = scale * query . key` for the keys of a range; scores behind the last one are overwritten too.
#[inline(always)]
fn score_range(scores: &mut [f32], query: &[f32], keys: Keys<'_>, range: Range<usize>, scale: f32) {
    let (mut j, mut done) = (range.start, 0);
    while j < range.end {
        let scores = &mut scores[done..];
        // Several blocks at once hide the latency of the sums; blocks may reach over the end of the range.
        let width = if j + 4 * LANES <= range.end {
            score_block::<{ 4 * LANES }>(scores, query, keys, j, scale)
        } else if j + LANES < range.end && j + 2 * LANES <= keys.stride {
            score_block::<{ 2 * LANES }>(scores, query, keys, j, scale)
        } else if j + LANES <= keys.stride {
            score_block::<LANES>(scores, query, keys, j, scale)
        } else {
            score_block::<1>(scores, query, keys, j, scale)
        };
        j += width;
        done += width;
    }
}

/// Scores of `W` keys from `first` on. Each is summed over the elements in order, whatever `W` is.
#[inline(always)]
fn score_block<const W: usize>(
    scores: &mut [f32],
    query: &[f32],
    keys: Keys<'_>,
    first: usize,
    scale: f32,
) -> usize {
    let mut sums = [0.0_f32; W];
    for (q, column) in query.iter().zip(keys.columns.chunks(keys.stride)) {
        for (sum, key) in sums.iter_mut().zip(&column[first..first + W]) {
            *sum += q * key;
        }
    }
    for (score, sum) in scores[..W].iter_mut().zip(sums) {
        *score = scale * sum;
    }
    W
}

/// The first `W` elements of the weighted mean of the values. Keys are summed in two halves, by turns.
#[inline(always)]
fn weighted_mean<const W: usize>(
    out: &mut [f32],
    weights: &[f32],
    values: Values<'_>,
    seen: &[Range<usize>],
    inverse: f32,
) -> usize {
    let (mut even, mut odd) = ([0.0_f32; W], [0.0_f32; W]);
    let add = |sums: &mut [f32; W], index: usize, j: usize| {
        for (sum, value) in sums.iter_mut().zip(&values.rows[j * values.stride..][..W]) {
            *sum += weights[index] * value;
        }
    };
    let mut index = 0;
    for range in seen {
        let mut j = range.start;
        if index % 2 == 1 && j < range.end {
            add(&mut odd, index, j);
            (j, index) = (j + 1, index + 1);
        }
        while j + 2 <= range.end {
            add(&mut even, index, j);
            add(&mut odd, index + 1, j + 1);
            (j, index) = (j + 2, index + 2);
        }
        if j < range.end {
            add(&mut even, index, j);
            index += 1;
        }
    }
    for ((out, even), odd) in out[..W].iter_mut().zip(even).zip(odd) {
        *out = (even + odd) * inverse;
    }
    W
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
                let sizes = (n_rows, n_keys, d);
                product((&mut weights, n_keys), sizes, (query, width, 1), (key, 1, width), false);
                product((&mut d_scores, n_keys), sizes, (d_out, out_width, 1), (value, 1, width), false);
                softmax_backward(&mut weights, &mut d_scores, n_keys, (row, head), causal, saved, shape);
                let d_query = &mut grad[row * grad_width + (head - kv_head * group) * d..];
                let (left, right) = ((&d_scores[..], n_keys, 1), (key, width, 1));
                product((d_query, grad_width), (n_rows, d, n_keys), left, right, true);
                let sizes = (n_keys, d, n_rows);
                let d_key = &mut grad[start * grad_width + group * d..];
                product((d_key, grad_width), sizes, (&d_scores, 1, n_keys), (query, width, 1), true);
                let d_value = &mut grad[start * grad_width + (group + 1) * d..];
                product((d_value, grad_width), sizes, (&weights, 1, n_keys), (d_out, out_width, 1), true);
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

/// The key-value head that query head `head` reads.
#[inline(always)]
fn kv_head_of(head: usize, shape: AttentionShape) -> usize {
    head / (shape.n_heads / shape.n_kv_heads)
}

fn split_sequences(segments: &[PackedSegment]) -> Vec<Sequence> {
    let mut sequences: Vec<Sequence> = Vec::new();
    for segment in segments {
        if segment.len == 0 {
            continue;
        }
        if segment.opens_sequence() || sequences.is_empty() {
            sequences.push(Sequence { start: segment.start, len: 0, segments: Vec::new() });
        }
        let Some(sequence) = sequences.last_mut() else { continue };
        sequence.len += segment.len;
        sequence.segments.push(PackedSegment {
            start: segment.start - sequence.start,
            prefix_start: segment.prefix_start.saturating_sub(sequence.start),
            ..*segment
        });
    }
    sequences
}

fn split_rows<'a>(mut rows: &'a mut [f32], sequences: &[Sequence], width: usize) -> Vec<&'a mut [f32]> {
    sequences
        .iter()
        .map(|sequence| {
            let (head, tail) = std::mem::take(&mut rows).split_at_mut(sequence.len * width);
            rows = tail;
            head
        })
        .collect()
}
