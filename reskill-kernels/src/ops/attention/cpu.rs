//! Attention on the CPU: one task a sequence (or a span of the cache), one row and head at a time.

use multiversion::multiversion;
use rayon::prelude::*;

use super::{AttentionShape, CachedSpan, PackedSegment};
use crate::simd::{axpy, dot, exp, sum};
use crate::tensor::Tensor;

/// Keys and values of consecutive rows; row `j` of a head starts at `j * stride + offset of the head`.
#[derive(Clone, Copy)]
struct Run<'a> {
    keys: &'a [f32],
    values: &'a [f32],
    stride: usize,
    len: usize,
}

/// The segments of one sequence, with rows counted from the start of the sequence.
struct Sequence {
    start: usize,
    len: usize,
    segments: Vec<PackedSegment>,
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
    let (qkv, width) = (qkv.as_slice(), shape.qkv_width());
    sequences.par_iter().zip(outs).zip(lses).for_each(|((sequence, out), lse)| {
        let qkv = &qkv[sequence.start * width..(sequence.start + sequence.len) * width];
        forward_sequence(out, lse, qkv, &sequence.segments, shape);
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
        let rows = |x: &'_ Tensor, width: usize| -> std::ops::Range<usize> {
            debug_assert_eq!(x.row_len(), width, "checked at the door");
            sequence.start * width..(sequence.start + sequence.len) * width
        };
        let saved = Saved {
            d_out: &d_out.as_slice()[rows(d_out, shape.out_width())],
            out: &out.as_slice()[rows(out, shape.out_width())],
            lse: &lse.as_slice()[rows(lse, shape.n_heads)],
            qkv: &qkv.as_slice()[rows(qkv, shape.qkv_width())],
        };
        d_qkv.fill(0.0);
        backward_sequence(d_qkv, &saved, &sequence.segments, shape);
    });
}

pub(super) fn append(
    keys: &mut Tensor,
    values: &mut Tensor,
    qkv: &Tensor,
    spans: &[CachedSpan],
    shape: AttentionShape,
) {
    let (capacity, kv_width, width) = (keys.shape()[1], shape.kv_width(), shape.qkv_width());
    let key_offset = shape.out_width();
    for span in spans {
        for t in 0..span.len {
            let row = &qkv.as_slice()[(span.row + t) * width..][..width];
            let to = (span.slot * capacity + span.position + t) * kv_width;
            keys.as_mut_slice()[to..to + kv_width].copy_from_slice(&row[key_offset..key_offset + kv_width]);
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
    let (slot_len, kv_width) = (keys.shape()[1] * shape.kv_width(), shape.kv_width());
    let mut outs = Vec::with_capacity(spans.len());
    let mut rest = out.as_mut_slice();
    for span in spans {
        let (rows, after) = rest.split_at_mut(span.len * shape.out_width());
        outs.push(rows);
        rest = after;
    }
    spans.par_iter().zip(outs).for_each(|(span, out)| {
        let slot = span.slot * slot_len..(span.slot + 1) * slot_len;
        let cached = Run {
            keys: &keys.as_slice()[slot.clone()],
            values: &values.as_slice()[slot],
            stride: kv_width,
            len: span.position + 1,
        };
        let queries = &qkv.as_slice()[span.row * shape.qkv_width()..];
        cached_span(out, &queries[..span.len * shape.qkv_width()], cached, shape);
    });
}

/// Calls a function with the head size as a literal for the usual sizes, so that its loops unroll.
macro_rules! with_head_dim {
    ($function:ident($($argument:expr),*; $shape:expr)) => {{
        let shape: AttentionShape = $shape;
        match shape.head_dim {
            16 => $function($($argument),*, AttentionShape { head_dim: 16, ..shape }),
            32 => $function($($argument),*, AttentionShape { head_dim: 32, ..shape }),
            64 => $function($($argument),*, AttentionShape { head_dim: 64, ..shape }),
            128 => $function($($argument),*, AttentionShape { head_dim: 128, ..shape }),
            _ => $function($($argument),*, shape),
        }
    }};
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn cached_span(out: &mut [f32], qkv: &[f32], first: Run<'_>, shape: AttentionShape) {
    with_head_dim!(cached_span_of(out, qkv, first; shape));
}

#[inline(always)]
fn cached_span_of(out: &mut [f32], qkv: &[f32], first: Run<'_>, shape: AttentionShape) {
    let mut scores = Vec::new();
    let rows = out.chunks_exact_mut(shape.out_width()).zip(qkv.chunks_exact(shape.qkv_width()));
    for (t, (out, row)) in rows.enumerate() {
        let run = Run { len: first.len + t, ..first };
        for head in 0..shape.n_heads {
            let dims = head * shape.head_dim..(head + 1) * shape.head_dim;
            attend(&mut out[dims.clone()], &row[dims], &[run], kv_offset(head, shape), &mut scores);
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn forward_sequence(
    out: &mut [f32],
    lse: &mut [f32],
    qkv: &[f32],
    segments: &[PackedSegment],
    shape: AttentionShape,
) {
    with_head_dim!(forward_sequence_of(out, lse, qkv, segments; shape));
}

#[inline(always)]
fn forward_sequence_of(
    out: &mut [f32],
    lse: &mut [f32],
    qkv: &[f32],
    segments: &[PackedSegment],
    shape: AttentionShape,
) {
    let (width, out_width) = (shape.qkv_width(), shape.out_width());
    let mut scores = Vec::new();
    for segment in segments {
        let prefix = run_of_rows(qkv, segment.prefix_start, segment.prefix_len, shape);
        for t in 0..segment.len {
            let i = segment.start + t;
            let runs = [prefix, run_of_rows(qkv, segment.start, t + 1, shape)];
            for head in 0..shape.n_heads {
                let dims = head * shape.head_dim..(head + 1) * shape.head_dim;
                let query = &qkv[i * width..][dims.clone()];
                let out = &mut out[i * out_width..][dims];
                lse[i * shape.n_heads + head] =
                    attend(out, query, &runs, kv_offset(head, shape), &mut scores);
            }
        }
    }
}

/// One row of one head; returns the log-sum-exp of its scores.
#[inline(always)]
fn attend(out: &mut [f32], query: &[f32], runs: &[Run<'_>], offset: usize, scores: &mut Vec<f32>) -> f32 {
    let d = query.len();
    let scale = 1.0 / (d as f32).sqrt();
    scores.clear();
    let mut max = f32::NEG_INFINITY;
    for run in runs {
        for j in 0..run.len {
            let score = scale * dot(query, &run.keys[j * run.stride + offset..][..d]);
            max = max.max(score);
            scores.push(score);
        }
    }
    for score in scores.iter_mut() {
        *score = exp(*score - max);
    }
    let total = sum(scores);
    out.fill(0.0);
    let mut weights = scores.iter();
    for run in runs {
        for (j, &weight) in (0..run.len).zip(weights.by_ref()) {
            axpy(out, weight, &run.values[j * run.stride + offset..][..d]);
        }
    }
    let inverse = 1.0 / total;
    for x in out.iter_mut() {
        *x *= inverse;
    }
    max + total.ln()
}

/// What the forward pass kept of one sequence.
struct Saved<'a> {
    d_out: &'a [f32],
    out: &'a [f32],
    lse: &'a [f32],
    qkv: &'a [f32],
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn backward_sequence(d_qkv: &mut [f32], saved: &Saved<'_>, segments: &[PackedSegment], shape: AttentionShape) {
    with_head_dim!(backward_sequence_of(d_qkv, saved, segments; shape));
}

#[inline(always)]
fn backward_sequence_of(d_qkv: &mut [f32], saved: &Saved<'_>, segments: &[PackedSegment], shape: AttentionShape) {
    let (width, out_width, d) = (shape.qkv_width(), shape.out_width(), shape.head_dim);
    let scale = 1.0 / (d as f32).sqrt();
    let mut d_query = vec![0.0; d];
    // Over the visible keys: first scores, then probabilities; first d_probabilities, then d_scores.
    let (mut weights, mut d_scores) = (Vec::new(), Vec::new());
    for segment in segments {
        for t in 0..segment.len {
            let i = segment.start + t;
            let prefix = segment.prefix_start..segment.prefix_start + segment.prefix_len;
            let ranges = [prefix, segment.start..segment.start + t + 1];
            for head in 0..shape.n_heads {
                let query = &saved.qkv[i * width + head * d..][..d];
                let d_out = &saved.d_out[i * out_width + head * d..][..d];
                let out = &saved.out[i * out_width + head * d..][..d];
                let lse = saved.lse[i * shape.n_heads + head];
                let delta = dot(d_out, out);
                let key_offset = shape.out_width() + kv_offset(head, shape);
                let value_offset = key_offset + shape.kv_width();
                weights.clear();
                d_scores.clear();
                for range in &ranges {
                    for row in saved.qkv[range.start * width..range.end * width].chunks_exact(width) {
                        weights.push(scale * dot(query, &row[key_offset..][..d]));
                        d_scores.push(dot(d_out, &row[value_offset..][..d]));
                    }
                }
                for (weight, d_score) in weights.iter_mut().zip(d_scores.iter_mut()) {
                    *weight = exp(*weight - lse);
                    *d_score = scale * *weight * (*d_score - delta);
                }
                d_query.fill(0.0);
                let mut columns = weights.iter().zip(&d_scores);
                for range in &ranges {
                    let rows = range.start * width..range.end * width;
                    let rows = saved.qkv[rows.clone()].chunks_exact(width).zip(d_qkv[rows].chunks_exact_mut(width));
                    for ((row, d_row), (&weight, &d_score)) in rows.zip(columns.by_ref()) {
                        axpy(&mut d_query[..d], d_score, &row[key_offset..][..d]);
                        axpy(&mut d_row[key_offset..][..d], d_score, query);
                        axpy(&mut d_row[value_offset..][..d], weight, d_out);
                    }
                }
                axpy(&mut d_qkv[i * width + head * d..][..d], 1.0, &d_query);
            }
        }
    }
}

/// Where the key-value head of query head `head` starts among the key-value heads.
#[inline(always)]
fn kv_offset(head: usize, shape: AttentionShape) -> usize {
    head / (shape.n_heads / shape.n_kv_heads) * shape.head_dim
}

#[inline(always)]
fn run_of_rows(qkv: &[f32], start: usize, len: usize, shape: AttentionShape) -> Run<'_> {
    let first = start * shape.qkv_width() + shape.out_width();
    Run { keys: &qkv[first..], values: &qkv[first + shape.kv_width()..], stride: shape.qkv_width(), len }
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
