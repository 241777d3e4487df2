//! Products on the CPU, by the `gemm` crate.
//!
//! Rows are split into fixed blocks, one `gemm` call each: the split does not depend on the number of threads.
//!
//! A row's result must be the same to the bit in any batch, but `gemm` picks its order of summation by the size of the
//! whole product. Few rows are therefore padded to [`MIN_ROWS`], and products so narrow that the number of rows would
//! still decide ([`is_narrow`]) are left to a plain loop.

use gemm::Parallelism;
use multiversion::multiversion;
use rayon::prelude::*;

use crate::parallel::sum_over_row_blocks;
use crate::simd::{axpy, dot};

/// Rows a task multiplies at once.
const BLOCK: usize = 128;
/// Rows that go into one partial sum of a weight gradient.
const WEIGHT_BLOCK: usize = 1024;
/// Outputs of a weight gradient that a task computes at once.
const OUTPUT_BLOCK: usize = 192;
/// A product of fewer multiplications than this is not worth a second task.
const SMALL: usize = 1 << 20;
/// The fewest rows that `gemm` is called with.
const MIN_ROWS: usize = 8;

/// Whether the order of summation inside `gemm` (0.19) would depend on the number of rows, given at least [`MIN_ROWS`]:
/// it has a kernel of its own for at most 256 results, and cuts a depth above 512 in another place where both sides of
/// the result are at most 64.
fn is_narrow(n_cols: usize, depth: usize) -> bool {
    MIN_ROWS * n_cols <= 256 || (n_cols <= 64 && depth > 512)
}

/// `out (N, O) = x (N, I) * weight (O, I)^T`.
pub(crate) fn forward(
    out: &mut [f32],
    x: &[f32],
    weight: &[f32],
    outputs: usize,
    inputs: usize,
    accumulate: bool,
) {
    let right = Right { data: weight, row_stride: 1, col_stride: inputs };
    by_row_blocks(out, x, &right, outputs, inputs, accumulate);
}

/// `d_x (N, I) = d_out (N, O) * weight (O, I)`.
pub(crate) fn backward_input(
    d_x: &mut [f32],
    d_out: &[f32],
    weight: &[f32],
    outputs: usize,
    inputs: usize,
    accumulate: bool,
) {
    let right = Right { data: weight, row_stride: inputs, col_stride: 1 };
    by_row_blocks(d_x, d_out, &right, inputs, outputs, accumulate);
}

/// `d_weight (O, I) += d_out (N, O)^T * x (N, I)`.
///
/// Tasks share the outputs out, or, where these are few and rows are many, the rows.
pub(crate) fn backward_weight(d_weight: &mut [f32], d_out: &[f32], x: &[f32], outputs: usize, inputs: usize) {
    if outputs == 0 || inputs == 0 || x.is_empty() {
        return;
    }
    let n = x.len() / inputs;
    if outputs < 4 * OUTPUT_BLOCK && n > WEIGHT_BLOCK {
        sum_over_row_blocks(d_weight, n, WEIGHT_BLOCK, |first, n_rows, d_weight| {
            let d_out = &d_out[first * outputs..(first + n_rows) * outputs];
            let x = &x[first * inputs..(first + n_rows) * inputs];
            product((d_weight, inputs), (outputs, inputs, n_rows), (d_out, 1, outputs), (x, inputs, 1), true);
        });
        return;
    }
    let block_len = if n * outputs * inputs < SMALL { d_weight.len() } else { OUTPUT_BLOCK * inputs };
    d_weight.par_chunks_mut(block_len).enumerate().for_each(|(block, d_weight)| {
        let sizes = (d_weight.len() / inputs, inputs, n);
        let d_out = &d_out[block * OUTPUT_BLOCK..];
        product((d_weight, inputs), sizes, (d_out, 1, outputs), (x, inputs, 1), true);
    });
}

/// The right factor of a product, with its strides.
struct Right<'a> {
    data: &'a [f32],
    row_stride: usize,
    col_stride: usize,
}

/// `out (N, n_cols) (+)= left (N, depth) * right (depth, n_cols)`, in blocks of rows.
fn by_row_blocks(
    out: &mut [f32],
    left: &[f32],
    right: &Right<'_>,
    n_cols: usize,
    depth: usize,
    accumulate: bool,
) {
    if out.is_empty() {
        return;
    }
    if depth == 0 {
        if !accumulate {
            out.fill(0.0);
        }
        return;
    }
    let narrow = is_narrow(n_cols, depth);
    let block = |(out, left): (&mut [f32], &[f32])| {
        if narrow {
            narrow_product(out, left, right, n_cols, depth, accumulate);
            return;
        }
        let n_rows = out.len() / n_cols;
        let right = (right.data, right.row_stride, right.col_stride);
        if n_rows >= MIN_ROWS {
            product((out, n_cols), (n_rows, n_cols, depth), (left, depth, 1), right, accumulate);
            return;
        }
        let mut padded_left = vec![0.0; MIN_ROWS * depth];
        padded_left[..left.len()].copy_from_slice(left);
        let mut padded_out = vec![0.0; MIN_ROWS * n_cols];
        padded_out[..out.len()].copy_from_slice(out);
        let sizes = (MIN_ROWS, n_cols, depth);
        product((&mut padded_out, n_cols), sizes, (&padded_left, depth, 1), right, accumulate);
        out.copy_from_slice(&padded_out[..out.len()]);
    };
    if out.len() <= BLOCK * n_cols {
        block((out, left));
    } else {
        out.par_chunks_mut(BLOCK * n_cols).zip(left.par_chunks(BLOCK * depth)).for_each(block);
    }
}

/// As [`by_row_blocks`], one row after the other.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn narrow_product(
    out: &mut [f32],
    left: &[f32],
    right: &Right<'_>,
    n_cols: usize,
    depth: usize,
    accumulate: bool,
) {
    for (out, left) in out.chunks_exact_mut(n_cols).zip(left.chunks_exact(depth)) {
        if !accumulate {
            out.fill(0.0);
        }
        // With one input both strides are 1; the columns are contiguous where they are as long as the depth.
        if right.row_stride == 1 && right.col_stride == depth {
            for (out, column) in out.iter_mut().zip(right.data.chunks(right.col_stride)) {
                *out += dot(left, &column[..depth]);
            }
        } else {
            for (&x, row) in left.iter().zip(right.data.chunks(right.row_stride)) {
                axpy(out, x, &row[..n_cols]);
            }
        }
    }
}

/// `out (m, n) (+)= left (m, k) * right (k, n)`, none of the sizes 0. `out` is (data, row stride), its rows contiguous; a
/// factor is (data, row stride, column stride). Its order of summation depends on all three sizes.
pub(crate) fn product(
    (out, out_rows): (&mut [f32], usize),
    (m, n, k): (usize, usize, usize),
    (left, left_rows, left_cols): (&[f32], usize, usize),
    (right, right_rows, right_cols): (&[f32], usize, usize),
    accumulate: bool,
) {
    assert!(m > 0 && n > 0 && k > 0 && out_rows >= n, "sizes are positive and rows of `out` do not overlap");
    assert!(out.len() >= (m - 1) * out_rows + n, "the product writes m rows of n elements");
    assert!(left.len() > (m - 1) * left_rows + (k - 1) * left_cols, "the left factor has m * k elements");
    assert!(right.len() > (k - 1) * right_rows + (n - 1) * right_cols, "the right factor has k * n elements");
    let alpha = if accumulate { 1.0 } else { 0.0 };
    // SAFETY:
    // - bounds: the asserts above cover the last element that the strides reach in each factor and in `out`;
    // - aliasing: `out` is borrowed mutably, the factors immutably, so they do not overlap;
    // - strides fit `isize`, since each is at most the length of a live slice.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_rows.cast_signed(),
            accumulate,
            left.as_ptr(),
            left_cols.cast_signed(),
            left_rows.cast_signed(),
            right.as_ptr(),
            right_cols.cast_signed(),
            right_rows.cast_signed(),
            alpha,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
