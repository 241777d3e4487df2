//! Products on the CPU: by panels where the processor has the instructions for them, else by the `gemm` crate.
//!
//! Tasks are blocks of the result. A row of a result has the same bits in any batch: see [`crate::panels`] for the order of
//! summation, and [`super::gemm`] for how it is kept there.

use rayon::prelude::*;

use super::gemm;
use crate::panels::{self, Matrix, MatrixMut, Packed};

/// A product of fewer multiplications than this is not worth a second task.
const SMALL: usize = 1 << 20;
/// Rows and columns of a task of the forward pass, or of the gradient of the input.
const BLOCK: (usize, usize) = (512, 128);
/// Rows of a task of the gradient of a weight.
const WEIGHT_ROWS: usize = 192;
/// Tasks of a product that is large enough for more than one, at the least.
const TASKS: usize = 16;

/// `out (N, O) = x (N, I) * weight (O, I)^T`.
pub(crate) fn forward(
    out: &mut [f32],
    x: &[f32],
    weight: &[f32],
    outputs: usize,
    inputs: usize,
    accumulate: bool,
) {
    let rows = out.len() / outputs.max(1);
    let (x, weight) = (Matrix::row_major(x, rows, inputs), Matrix::row_major(weight, outputs, inputs));
    by_rows(MatrixMut::row_major(out, rows, outputs), x, weight.transposed(), accumulate);
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
    let rows = d_x.len() / inputs.max(1);
    let (d_out, weight) =
        (Matrix::row_major(d_out, rows, outputs), Matrix::row_major(weight, outputs, inputs));
    by_rows(MatrixMut::row_major(d_x, rows, inputs), d_out, weight, accumulate);
}

/// `d_weight (O, I) += d_out (N, O)^T * x (N, I)`.
pub(crate) fn backward_weight(d_weight: &mut [f32], d_out: &[f32], x: &[f32], outputs: usize, inputs: usize) {
    if outputs == 0 || inputs == 0 || x.is_empty() {
        return;
    }
    if !panels::is_fast() {
        gemm::backward_weight(d_weight, d_out, x, outputs, inputs);
        return;
    }
    let rows = x.len() / inputs;
    let (d_out, x) = (Matrix::row_major(d_out, rows, outputs), Matrix::row_major(x, rows, inputs));
    let d_weight = MatrixMut::row_major(d_weight, outputs, inputs);
    if rows * outputs * inputs < SMALL {
        panels::product(d_weight, d_out.transposed(), x, true);
    } else {
        let block = outputs.div_ceil(TASKS).next_multiple_of(6).clamp(24, WEIGHT_ROWS);
        panels::transposed_product(d_weight, d_out, x, block);
    }
}

/// `out (M, N) (+)= left (M, K) * right (K, N)` on this thread. Where it runs on `gemm`, its order of summation depends on
/// all three sizes.
pub(crate) fn product(out: MatrixMut<'_>, left: Matrix<'_>, right: Matrix<'_>, accumulate: bool) {
    if panels::is_fast() {
        panels::product(out, left, right, accumulate);
    } else {
        gemm::product(out, left, right, accumulate);
    }
}

/// A right factor that many products on one thread share.
pub(crate) struct Prepared<'a> {
    right: Matrix<'a>,
    panels: Option<panels::Panels<'a, f32>>,
}

impl<'a> Prepared<'a> {
    /// Lays the factor out in `room`, where that pays.
    pub(crate) fn new(room: &'a mut Packed, right: Matrix<'a>) -> Prepared<'a> {
        Prepared { right, panels: panels::is_fast().then(|| panels::pack(room, right)) }
    }

    /// `out = left * right`, on this thread. The rows of `left` are contiguous.
    pub(crate) fn product(&self, out: MatrixMut<'_>, left: Matrix<'_>) {
        match self.panels {
            Some(panels) => panels::packed_product(out, left, panels, false),
            None => gemm::by_row_blocks(out, left, self.right, false),
        }
    }
}

/// A product whose rows do not depend on each other, in tasks.
fn by_rows(out: MatrixMut<'_>, left: Matrix<'_>, right: Matrix<'_>, accumulate: bool) {
    if panels::is_fast() {
        by_blocks(out, left, right, accumulate, BLOCK);
    } else {
        gemm::by_row_blocks(out, left, right, accumulate);
    }
}

/// A product by panels, in tasks of at most `block` rows and columns.
fn by_blocks(
    out: MatrixMut<'_>,
    left: Matrix<'_>,
    right: Matrix<'_>,
    accumulate: bool,
    (mut rows, mut cols): (usize, usize),
) {
    if out.rows() * out.cols() * right.rows().max(1) < SMALL {
        panels::product(out, left, right, accumulate);
        return;
    }
    while out.rows().div_ceil(rows) * out.cols().div_ceil(cols) < TASKS && (rows > 48 || cols > 64) {
        if rows > out.rows().max(48) || (rows > 48 && rows >= cols) {
            rows = (rows / 2).next_multiple_of(6);
        } else {
            cols = (cols / 2).max(64);
        }
    }
    out.into_blocks(rows, cols).into_par_iter().for_each(|(row, col, out)| {
        let (left, right) = (left.rows_from(row, out.rows()), right.columns(col, out.cols()));
        panels::product(out, left, right, accumulate);
    });
}
