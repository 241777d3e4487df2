//! RMSNorm on the CPU.

use multiversion::multiversion;

use crate::parallel::{for_row_blocks, sum_over_row_blocks};
use crate::simd::dot;
use crate::tensor::Tensor;

pub(super) fn forward(out: &mut Tensor, rstd: &mut Tensor, x: &Tensor, weight: &Tensor, eps: f32) {
    let c = x.row_len();
    let (x, weight) = (x.as_slice(), weight.as_slice());
    for (rstd, row) in rstd.as_mut_slice().iter_mut().zip(x.chunks_exact(c.max(1))) {
        *rstd = row_rstd(row, eps);
    }
    let rstd = rstd.as_slice();
    for_row_blocks(out.as_mut_slice(), c, |first, rows| {
        let n = rows.len() / c.max(1);
        forward_rows(rows, &x[first * c..], weight, &rstd[first..first + n]);
    });
}

pub(super) fn residual_forward(
    (out, sum, rstd): (&mut Tensor, &mut Tensor, &mut Tensor),
    x: &Tensor,
    residual: &Tensor,
    weight: &Tensor,
    eps: f32,
) {
    let c = x.row_len();
    let (x, residual) = (x.as_slice(), residual.as_slice());
    for_row_blocks(sum.as_mut_slice(), c, |first, rows| {
        let from = first * c..first * c + rows.len();
        add(rows, &residual[from.clone()], &x[from]);
    });
    forward(out, rstd, sum, weight, eps);
}

pub(super) fn backward(
    d_x: &mut Tensor,
    d_weight: &mut Tensor,
    d_out: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    rstd: &Tensor,
) {
    let (n, c) = (x.rows(), x.row_len());
    let (x, weight) = (x.as_slice(), weight.as_slice());
    let (d_out, rstd) = (d_out.as_slice(), rstd.as_slice());
    for_row_blocks(d_x.as_mut_slice(), c, |first, rows| {
        backward_rows(rows, &d_out[first * c..], &x[first * c..], weight, &rstd[first..]);
    });
    sum_over_row_blocks(d_weight.as_mut_slice(), n, 256, |first, n_rows, d_weight| {
        let rows = first * c..(first + n_rows) * c;
        weight_rows(d_weight, &d_out[rows.clone()], &x[rows], &rstd[first..]);
    });
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn add(sum: &mut [f32], a: &[f32], b: &[f32]) {
    for ((sum, a), b) in sum.iter_mut().zip(a).zip(b) {
        *sum = a + b;
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn row_rstd(row: &[f32], eps: f32) -> f32 {
    1.0 / (dot(row, row) / row.len() as f32 + eps).sqrt()
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn forward_rows(out: &mut [f32], x: &[f32], weight: &[f32], rstd: &[f32]) {
    let c = weight.len().max(1);
    for ((out, x), rstd) in out.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(rstd) {
        for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
            *out = x * rstd * weight;
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn backward_rows(d_x: &mut [f32], d_out: &[f32], x: &[f32], weight: &[f32], rstd: &[f32]) {
    let c = weight.len().max(1);
    let rows = d_x.chunks_exact_mut(c).zip(d_out.chunks_exact(c)).zip(x.chunks_exact(c)).zip(rstd);
    for (((d_x, d_out), x), &rstd) in rows {
        let mut lanes = [0.0_f32; 16];
        for (start, d_out) in d_out.chunks(16).enumerate().map(|(i, chunk)| (i * 16, chunk)) {
            for (lane, d) in d_out.iter().enumerate() {
                lanes[lane] += d * weight[start + lane] * x[start + lane];
            }
        }
        let mean = lanes.iter().sum::<f32>() / c as f32;
        let pull = rstd * rstd * mean;
        for (((d_x, d_out), x), weight) in d_x.iter_mut().zip(d_out).zip(x).zip(weight) {
            *d_x += rstd * (d_out * weight - x * pull);
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn weight_rows(d_weight: &mut [f32], d_out: &[f32], x: &[f32], rstd: &[f32]) {
    let c = d_weight.len().max(1);
    for ((d_out, x), rstd) in d_out.chunks_exact(c).zip(x.chunks_exact(c)).zip(rstd) {
        for ((d_weight, d_out), x) in d_weight.iter_mut().zip(d_out).zip(x) {
            *d_weight += d_out * x * rstd;
        }
    }
}
