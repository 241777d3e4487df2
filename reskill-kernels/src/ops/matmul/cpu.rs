//! Products on the CPU, by the `gemm` crate.
//!
//! Rows are split into fixed blocks, one `gemm` call each: the split does not depend on the number of threads. With
//! four rows or fewer `gemm` takes another path with another order of summation, so such blocks are padded to
//! [`MIN_ROWS`]: a row's result is the same to the bit in any batch.

use gemm::Parallelism;
use rayon::prelude::*;

use crate::parallel::sum_over_row_blocks;

/// Rows a task multiplies at once.
const BLOCK: usize = 128;
/// Rows that go into one partial sum of a weight gradient.
const WEIGHT_BLOCK: usize = 1024;
/// The fewest rows that `gemm` is called with.
const MIN_ROWS: usize = 8;

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
pub(crate) fn backward_weight(d_weight: &mut [f32], d_out: &[f32], x: &[f32], outputs: usize, inputs: usize) {
    if outputs == 0 || inputs == 0 {
        return;
    }
    let n = x.len() / inputs;
    sum_over_row_blocks(d_weight, n, WEIGHT_BLOCK, |first, n_rows, d_weight| {
        let d_out = &d_out[first * outputs..(first + n_rows) * outputs];
        let x = &x[first * inputs..(first + n_rows) * inputs];
        product(d_weight, (outputs, inputs, n_rows), (d_out, 1, outputs), (x, inputs, 1), true);
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
    let block = |(out, left): (&mut [f32], &[f32])| {
        let n_rows = out.len() / n_cols;
        let right = (right.data, right.row_stride, right.col_stride);
        if n_rows >= MIN_ROWS {
            product(out, (n_rows, n_cols, depth), (left, depth, 1), right, accumulate);
            return;
        }
        let mut padded_left = vec![0.0; MIN_ROWS * depth];
        padded_left[..left.len()].copy_from_slice(left);
        let mut padded_out = vec![0.0; MIN_ROWS * n_cols];
        padded_out[..out.len()].copy_from_slice(out);
        product(&mut padded_out, (MIN_ROWS, n_cols, depth), (&padded_left, depth, 1), right, accumulate);
        out.copy_from_slice(&padded_out[..out.len()]);
    };
    if out.len() <= BLOCK * n_cols {
        block((out, left));
    } else {
        out.par_chunks_mut(BLOCK * n_cols).zip(left.par_chunks(BLOCK * depth)).for_each(block);
    }
}

/// `out (m, n) row-major (+)= left (m, k) * right (k, n)`; a factor is (data, row stride, column stride).
fn product(
    out: &mut [f32],
    (m, n, k): (usize, usize, usize),
    (left, left_rows, left_cols): (&[f32], usize, usize),
    (right, right_rows, right_cols): (&[f32], usize, usize),
    accumulate: bool,
) {
    assert!(out.len() >= m * n, "the product writes m * n elements");
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
            n.cast_signed(),
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
