//! Biases on the CPU.

use crate::parallel::{for_row_blocks, sum_over_row_blocks};
use crate::simd::axpy;
use crate::tensor::Tensor;

pub(super) fn forward(out: &mut Tensor, bias: &Tensor) {
    let width = out.row_len();
    for_row_blocks(out.as_mut_slice(), width, |_, rows| {
        rows.chunks_exact_mut(width.max(1)).for_each(|row| axpy(row, 1.0, bias.as_slice()));
    });
}

pub(super) fn backward(d_bias: &mut Tensor, d_out: &Tensor) {
    let (n, width) = (d_out.rows(), d_out.row_len());
    sum_over_row_blocks(d_bias.as_mut_slice(), n, 256, |first, n_rows, d_bias| {
        let rows = &d_out.as_slice()[first * width..(first + n_rows) * width];
        rows.chunks_exact(width.max(1)).for_each(|row| axpy(d_bias, 1.0, row));
    });
}
