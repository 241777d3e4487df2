//! Products by the `gemm` crate, for processors without the instructions that [`crate::panels`] is written for.
//!
//! Rows are split into fixed blocks, one `gemm` call each: the split does not depend on the number of threads.
//!
//! A row's result must be the same to the bit in any batch, but `gemm` picks its order of summation by the size of the
//! whole product. Few rows are therefore padded to [`MIN_ROWS`], and products so narrow that the number of rows would
//! still decide ([`is_narrow`]) are left to a plain loop.

use gemm::Parallelism;
use multiversion::multiversion;
use rayon::prelude::*;

use crate::panels::{Matrix, MatrixMut};
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

/// `d_weight (O, I) += d_out (N, O)^T * x (N, I)`, none of the sizes 0.
///
/// Tasks share the outputs out, or, where these are few and rows are many, the rows.
pub(super) fn backward_weight(d_weight: &mut [f32], d_out: &[f32], x: &[f32], outputs: usize, inputs: usize) {
    let n = x.len() / inputs;
    if outputs < 4 * OUTPUT_BLOCK && n > WEIGHT_BLOCK {
        sum_over_row_blocks(d_weight, n, WEIGHT_BLOCK, |first, n_rows, d_weight| {
            let d_out = Matrix::row_major(&d_out[first * outputs..], n_rows, outputs);
            let x = Matrix::row_major(&x[first * inputs..], n_rows, inputs);
            product(MatrixMut::row_major(d_weight, outputs, inputs), d_out.transposed(), x, true);
        });
        return;
    }
    let (d_out, x) = (Matrix::row_major(d_out, n, outputs).transposed(), Matrix::row_major(x, n, inputs));
    let block = if n * outputs * inputs < SMALL { outputs } else { OUTPUT_BLOCK };
    let blocks = MatrixMut::row_major(d_weight, outputs, inputs).into_blocks(block, inputs);
    blocks.into_par_iter().for_each(|(first, _, d_weight)| {
        let d_out = d_out.rows_from(first, d_weight.rows());
        product(d_weight, d_out, x, true);
    });
}

/// `out (N, n_cols) (+)= left (N, depth) * right (depth, n_cols)`, in blocks of rows. The rows of `left` are contiguous.
pub(super) fn by_row_blocks(out: MatrixMut<'_>, left: Matrix<'_>, right: Matrix<'_>, accumulate: bool) {
    let blocks = out.into_blocks(BLOCK, right.cols().max(1));
    let run = |(first, _, out): (usize, usize, MatrixMut<'_>)| {
        let left = left.rows_from(first, out.rows());
        row_block(out, left, right, accumulate);
    };
    if blocks.len() == 1 {
        blocks.into_iter().for_each(run);
    } else {
        blocks.into_par_iter().for_each(run);
    }
}

fn row_block(mut out: MatrixMut<'_>, left: Matrix<'_>, right: Matrix<'_>, accumulate: bool) {
    let (n_rows, n_cols, depth) = (out.rows(), right.cols(), right.rows());
    if depth == 0 {
        if !accumulate {
            out.fill(0.0);
        }
    } else if is_narrow(n_cols, depth) {
        narrow_product(&mut out, left, right, accumulate);
    } else if n_rows >= MIN_ROWS {
        product(out, left, right, accumulate);
    } else {
        let (mut padded_left, mut padded_out) = (vec![0.0; MIN_ROWS * depth], vec![0.0; MIN_ROWS * n_cols]);
        let rows = padded_left.chunks_exact_mut(depth).zip(padded_out.chunks_exact_mut(n_cols));
        for (i, (padded_left, padded_out)) in rows.take(n_rows).enumerate() {
            padded_left.copy_from_slice(left.row(i));
            padded_out.copy_from_slice(out.row_mut(i));
        }
        let padded = MatrixMut::row_major(&mut padded_out, MIN_ROWS, n_cols);
        product(padded, Matrix::row_major(&padded_left, MIN_ROWS, depth), right, accumulate);
        for (i, padded_out) in padded_out.chunks_exact(n_cols).take(n_rows).enumerate() {
            out.row_mut(i).copy_from_slice(padded_out);
        }
    }
}

/// As [`by_row_blocks`], one row after the other.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn narrow_product(out: &mut MatrixMut<'_>, left: Matrix<'_>, right: Matrix<'_>, accumulate: bool) {
    for i in 0..out.rows() {
        let (out, left) = (out.row_mut(i), left.row(i));
        if !accumulate {
            out.fill(0.0);
        }
        if right.columns_are_contiguous() {
            let columns = right.transposed();
            for (j, out) in out.iter_mut().enumerate() {
                *out += dot(left, columns.row(j));
            }
        } else {
            for (k, &x) in left.iter().enumerate() {
                axpy(out, x, right.row(k));
            }
        }
    }
}

/// `out (m, n) (+)= left (m, k) * right (k, n)`, none of the sizes 0. Its order of summation depends on all three sizes.
pub(super) fn product(mut out: MatrixMut<'_>, left: Matrix<'_>, right: Matrix<'_>, accumulate: bool) {
    let (m, n, k) = (left.rows(), right.cols(), right.rows());
    assert!(m > 0 && n > 0 && k > 0, "sizes are positive");
    assert!((out.rows(), out.cols(), left.cols()) == (m, n, k), "the factors fit");
    let alpha = if accumulate { 1.0 } else { 0.0 };
    // SAFETY:
    // - bounds: a matrix has all its elements inside the slice it was made of, and the sizes fit (asserted above);
    // - aliasing: `out` is borrowed mutably, the factors immutably, so they do not overlap;
    // - strides fit `isize`, since each is at most the length of a live slice.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out.stride().cast_signed(),
            accumulate,
            left.as_ptr(),
            left.col_stride().cast_signed(),
            left.row_stride().cast_signed(),
            right.as_ptr(),
            right.col_stride().cast_signed(),
            right.row_stride().cast_signed(),
            alpha,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
