//! Attention on the CPU.
//!
//! Forward, packed or cached: a few rows at a time, always by [`attend`]. Keys are read transposed, so that the scores of
//! many keys are computed side by side. Backward: products of blocks of rows, one task a sequence and key-value head.

mod attend;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod backward;
mod portable;

use multiversion::multiversion;
use rayon::prelude::*;

use self::attend::{LANES, MAX_ROWS, Piece, Row, attend};
use super::{AttentionShape, CachedSpan, PackedSegment};
use crate::tensor::Tensor;

pub(super) use self::backward::backward;

/// Rows that one task of the forward pass, or one product of the backward pass, takes at once.
const ROWS: usize = 64;
/// Scores of one span from which on its heads are tasks of their own.
const LARGE_SPAN: usize = 1 << 11;

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

pub(super) fn append(
    keys: &mut Tensor,
    values: &mut Tensor,
    qkv: &Tensor,
    spans: &[CachedSpan<'_>],
    shape: AttentionShape,
) {
    let (page, kv_width, width) = (values.shape()[1], shape.kv_width(), shape.qkv_width());
    for span in spans {
        for t in 0..span.len {
            let row = &qkv.as_slice()[(span.row + t) * width..][..width];
            let (key, value) = row[shape.out_width()..].split_at(kv_width);
            let position = span.position + t;
            let (block, at) = (span.blocks[position / page] as usize * page * kv_width, position % page);
            let columns = &mut keys.as_mut_slice()[block + at..];
            for (to, key) in columns.iter_mut().step_by(page).zip(key) {
                *to = *key;
            }
            values.as_mut_slice()[block + at * kv_width..][..kv_width].copy_from_slice(value);
        }
    }
}

pub(super) fn forward_cached(
    out: &mut Tensor,
    qkv: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    spans: &[CachedSpan<'_>],
    shape: AttentionShape,
) {
    let cache = Cache { keys: keys.as_slice(), values: values.as_slice(), page: values.shape()[1] };
    let mut outs = Vec::with_capacity(spans.len());
    let mut rest = out.as_mut_slice();
    for span in spans {
        let (rows, after) = rest.split_at_mut(span.len * shape.out_width());
        outs.push(rows);
        rest = after;
    }
    spans.par_iter().zip(outs).for_each(|(span, out)| {
        let queries = &qkv.as_slice()[span.row * shape.qkv_width()..][..span.len * shape.qkv_width()];
        if span.len * (span.position + span.len) < LARGE_SPAN {
            for kv_head in 0..shape.n_kv_heads {
                let first = kv_head * shape.group();
                cached_head(out, shape.out_width(), first, queries, &cache, span, kv_head, shape);
            }
            return;
        }
        // Blocks of rows and heads are tasks; each writes a buffer of its own, since heads share rows.
        let width = shape.group() * shape.head_dim;
        let blocks: Vec<(usize, usize)> = (0..span.len)
            .step_by(ROWS)
            .flat_map(|first| (0..shape.n_kv_heads).map(move |kv_head| (first, kv_head)))
            .collect();
        let parts: Vec<Vec<f32>> = blocks
            .par_iter()
            .map(|&(first, kv_head)| {
                let len = ROWS.min(span.len - first);
                let mut part = vec![0.0; len * width];
                let part_span = CachedSpan { len, position: span.position + first, ..*span };
                let queries = &queries[first * shape.qkv_width()..][..len * shape.qkv_width()];
                cached_head(&mut part, width, 0, queries, &cache, &part_span, kv_head, shape);
                part
            })
            .collect();
        for (&(first, kv_head), part) in blocks.iter().zip(&parts) {
            let rows = out.chunks_exact_mut(shape.out_width()).skip(first);
            for (row, part) in rows.zip(part.chunks_exact(width)) {
                row[kv_head * width..][..width].copy_from_slice(part);
            }
        }
    });
}

/// Keys (blocks, K D, page) and values (blocks, page, K D) of a layer.
struct Cache<'a> {
    keys: &'a [f32],
    values: &'a [f32],
    page: usize,
}

/// The rows of a span by the query heads of one key-value head. Row `t`, head `h` of the group goes to
/// `out[t * out_stride + (first_head + h) * D ..]`.
#[expect(clippy::too_many_arguments, reason = "a target-specific function cannot be a method")]
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn cached_head(
    out: &mut [f32],
    out_stride: usize,
    first_head: usize,
    queries: &[f32],
    cache: &Cache<'_>,
    span: &CachedSpan<'_>,
    kv_head: usize,
    shape: AttentionShape,
) {
    let (d, page, group) = (shape.head_dim, cache.page, shape.group());
    let n_keys = span.position + span.len;
    let pieces: Vec<Piece<'_>> = span.blocks[..n_keys.div_ceil(page)]
        .iter()
        .enumerate()
        .map(|(index, &block)| {
            let start = block as usize * page * shape.kv_width();
            Piece {
                keys: &cache.keys[start + kv_head * d * page..],
                key_stride: page,
                values: &cache.values[start + kv_head * d..],
                value_stride: shape.kv_width(),
                range: 0..page.min(n_keys - index * page),
            }
        })
        .collect();
    let row = |index: usize| {
        let (t, head) = (index / group, index % group);
        Row {
            query: t * shape.qkv_width() + (kv_head * group + head) * d,
            out: t * out_stride + (first_head + head) * d,
            n_seen: span.position + t + 1,
        }
    };
    let mut scores = Vec::new();
    let n_rows = span.len * group;
    let mut first = 0;
    while first < n_rows {
        let n = MAX_ROWS.min(n_rows - first);
        // Keys that none of these rows sees are left out.
        let pieces = &pieces[..row(first + n - 1).n_seen.div_ceil(page)];
        let rows: [Row; MAX_ROWS] = std::array::from_fn(|index| row(first + index.min(n - 1)));
        attend(out, queries, d, &rows[..n], pieces, &mut scores);
        first += n;
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
    let (d, width, group) = (shape.head_dim, shape.qkv_width(), shape.group());
    let mut scores = Vec::new();
    let last = first + lse.len() / shape.n_heads;
    let begin = segments.partition_point(|segment| segment.start + segment.len <= first);
    for segment in segments[begin..].iter().take_while(|segment| segment.start < last) {
        let rows = segment.start.max(first)..last.min(segment.start + segment.len);
        for kv_head in 0..shape.n_kv_heads {
            let piece = |range: std::ops::Range<usize>| Piece {
                keys: &keys[kv_head * d * stride..],
                key_stride: stride,
                values: &qkv[shape.out_width() + shape.kv_width() + kv_head * d..],
                value_stride: width,
                range,
            };
            let prefix = segment.prefix_start..segment.prefix_start + segment.prefix_len;
            let row = |index: usize| {
                let (i, head) = (rows.start + index / group, kv_head * group + index % group);
                let n_seen = segment.prefix_len + i + 1 - segment.start;
                Row { query: i * width + head * d, out: (i - first) * shape.out_width() + head * d, n_seen }
            };
            let n_rows = rows.len() * group;
            let mut done = 0;
            while done < n_rows {
                let n = MAX_ROWS.min(n_rows - done);
                let own = segment.start..rows.start + (done + n - 1) / group + 1;
                let pieces = [piece(prefix.clone()), piece(own)];
                let members: [Row; MAX_ROWS] = std::array::from_fn(|index| row(done + index.min(n - 1)));
                let kept = attend(out, qkv, d, &members[..n], &pieces, &mut scores);
                for (index, kept) in kept[..n].iter().enumerate() {
                    let (i, head) =
                        (rows.start + (done + index) / group, kv_head * group + (done + index) % group);
                    lse[(i - first) * shape.n_heads + head] = *kept;
                }
                done += n;
            }
        }
    }
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
