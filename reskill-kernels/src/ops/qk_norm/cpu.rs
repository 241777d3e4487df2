//! Norms of query and key heads on the CPU.

use multiversion::multiversion;
use rayon::prelude::*;

use crate::ops::AttentionShape;
use crate::parallel::{ROW_BLOCK, for_row_blocks, sum_over_row_blocks};
use crate::simd::dot;
use crate::tensor::Tensor;

pub(super) fn forward(
    qkv: &mut Tensor,
    raw: &mut Tensor,
    rstd: &mut Tensor,
    weights: (&[f32], &[f32]),
    shape: AttentionShape,
    eps: f32,
) {
    let (width, heads) = (shape.qkv_width(), shape.n_heads + shape.n_kv_heads);
    let normed = heads * shape.head_dim;
    if width == 0 || normed == 0 {
        return;
    }
    let blocks = qkv
        .as_mut_slice()
        .par_chunks_mut(ROW_BLOCK * width)
        .zip(raw.as_mut_slice().par_chunks_mut(ROW_BLOCK * normed))
        .zip(rstd.as_mut_slice().par_chunks_mut(ROW_BLOCK * heads));
    blocks.for_each(|((qkv, raw), rstd)| {
        let rows = qkv.chunks_exact_mut(width).zip(raw.chunks_exact_mut(normed));
        for ((row, raw), rstd) in rows.zip(rstd.chunks_exact_mut(heads)) {
            raw.copy_from_slice(&row[..normed]);
            forward_row(&mut row[..normed], raw, rstd, weights, shape, eps);
        }
    });
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn forward_row(
    out: &mut [f32],
    raw: &[f32],
    rstd: &mut [f32],
    weights: (&[f32], &[f32]),
    shape: AttentionShape,
    eps: f32,
) {
    let d = shape.head_dim;
    let heads = out.chunks_exact_mut(d).zip(raw.chunks_exact(d)).zip(rstd);
    for (head, ((out, raw), rstd)) in heads.enumerate() {
        *rstd = 1.0 / (dot(raw, raw) / d as f32 + eps).sqrt();
        for ((out, x), weight) in out.iter_mut().zip(raw).zip(weight_of(head, weights, shape)) {
            *out = x * *rstd * weight;
        }
    }
}

pub(super) fn backward(
    d_qkv: &mut Tensor,
    (d_q_weight, d_k_weight): (&mut [f32], &mut [f32]),
    raw: &Tensor,
    rstd: &Tensor,
    weights: (&[f32], &[f32]),
    shape: AttentionShape,
) {
    let (width, heads, d) = (shape.qkv_width(), shape.n_heads + shape.n_kv_heads, shape.head_dim);
    let normed = heads * d;
    if width == 0 || normed == 0 {
        return;
    }
    let (raw, rstd) = (raw.as_slice(), rstd.as_slice());
    // Both weights side by side, so that one pass over the rows serves both.
    let mut d_weights = vec![0.0; 2 * d];
    let d_out = d_qkv.as_slice();
    sum_over_row_blocks(&mut d_weights, d_out.len() / width, 256, |first, n_rows, d_weights| {
        let rows = &d_out[first * width..(first + n_rows) * width];
        weight_rows(d_weights, rows, &raw[first * normed..], &rstd[first * heads..], shape);
    });
    for (to, from) in d_q_weight.iter_mut().chain(d_k_weight).zip(&d_weights) {
        *to += from;
    }
    for_row_blocks(d_qkv.as_mut_slice(), width, |first, rows| {
        let saved = raw[first * normed..].chunks_exact(normed).zip(rstd[first * heads..].chunks_exact(heads));
        for (row, (raw, rstd)) in rows.chunks_exact_mut(width).zip(saved) {
            backward_row(&mut row[..normed], raw, rstd, weights, shape);
        }
    });
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn backward_row(
    d_row: &mut [f32],
    raw: &[f32],
    rstd: &[f32],
    weights: (&[f32], &[f32]),
    shape: AttentionShape,
) {
    let d = shape.head_dim;
    let heads = d_row.chunks_exact_mut(d).zip(raw.chunks_exact(d)).zip(rstd);
    for (head, ((d_row, raw), &rstd)) in heads.enumerate() {
        let weight = weight_of(head, weights, shape);
        for (d, weight) in d_row.iter_mut().zip(weight) {
            *d *= weight;
        }
        let pull = rstd * rstd * dot(d_row, raw) / d as f32;
        for (d, x) in d_row.iter_mut().zip(raw) {
            *d = rstd * (*d - x * pull);
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn weight_rows(d_weights: &mut [f32], d_out: &[f32], raw: &[f32], rstd: &[f32], shape: AttentionShape) {
    let (d, heads) = (shape.head_dim, shape.n_heads + shape.n_kv_heads);
    let (d_queries, d_keys) = d_weights.split_at_mut(d);
    let rows = d_out.chunks_exact(shape.qkv_width()).zip(raw.chunks_exact(heads * d));
    for ((d_row, raw), rstd) in rows.zip(rstd.chunks_exact(heads)) {
        let parts = d_row.chunks_exact(d).zip(raw.chunks_exact(d)).zip(rstd);
        for (head, ((d_head, raw), rstd)) in parts.enumerate() {
            let to = if head < shape.n_heads { &mut *d_queries } else { &mut *d_keys };
            for ((to, d_out), x) in to.iter_mut().zip(d_head).zip(raw) {
                *to += d_out * x * rstd;
            }
        }
    }
}

/// The weight of query or key head `head`, queries first.
#[inline(always)]
fn weight_of<'a>(head: usize, (queries, keys): (&'a [f32], &'a [f32]), shape: AttentionShape) -> &'a [f32] {
    if head < shape.n_heads { queries } else { keys }
}
