//! Embedding on the CPU.

use crate::simd::axpy;
use crate::tensor::Tensor;

pub(super) fn forward(out: &mut Tensor, table: &Tensor, tokens: &Tensor<u32>) {
    let c = table.row_len();
    for (row, &token) in out.as_mut_slice().chunks_exact_mut(c.max(1)).zip(tokens.as_slice()) {
        let start = token as usize * c;
        row.copy_from_slice(&table.as_slice()[start..start + c]);
    }
}

pub(super) fn backward(d_table: &mut Tensor, d_out: &Tensor, tokens: &Tensor<u32>) {
    let c = d_table.row_len();
    for (row, &token) in d_out.as_slice().chunks_exact(c.max(1)).zip(tokens.as_slice()) {
        let start = token as usize * c;
        axpy(&mut d_table.as_mut_slice()[start..start + c], 1.0, row);
    }
}
