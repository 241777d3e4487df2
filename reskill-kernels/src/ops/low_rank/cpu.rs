//! The low-rank addition on the CPU.

use super::{LowRank, sizes};
use crate::ops::matmul::cpu as matmul;
use crate::parallel::for_row_blocks;
use crate::tensor::Tensor;

pub(super) fn forward(out: &mut Tensor, x: &Tensor, pair: &LowRank<'_>) {
    let (outputs, rank, _) = sizes(pair);
    let n = x.rows();
    let inner = inner(x, pair);
    let mut added = vec![0.0; n * outputs];
    matmul::forward(&mut added, &inner, pair.b.as_slice(), outputs, rank, false);
    let width = out.row_len();
    for_row_blocks(out.as_mut_slice(), width, |first, rows| {
        for (row, added) in rows.chunks_exact_mut(width).zip(added[first * outputs..].chunks_exact(outputs)) {
            for (to, add) in row[pair.first_column..].iter_mut().zip(added) {
                *to += pair.scale * add;
            }
        }
    });
}

pub(super) fn backward(
    d_x: &mut Tensor,
    (d_a, d_b): (&mut Tensor, &mut Tensor),
    d_out: &Tensor,
    x: &Tensor,
    pair: &LowRank<'_>,
) {
    let (outputs, rank, inputs) = sizes(pair);
    let (n, width) = (x.rows(), d_out.row_len());
    let mut d_added = vec![0.0; n * outputs];
    for_row_blocks(&mut d_added, outputs, |first, rows| {
        let d_out = d_out.as_slice()[first * width..].chunks_exact(width);
        for (to, row) in rows.chunks_exact_mut(outputs).zip(d_out) {
            for (to, d) in to.iter_mut().zip(&row[pair.first_column..]) {
                *to = pair.scale * d;
            }
        }
    });
    let inner = inner(x, pair);
    let mut d_inner = vec![0.0; n * rank];
    matmul::backward_input(&mut d_inner, &d_added, pair.b.as_slice(), outputs, rank, false);
    matmul::backward_weight(d_b.as_mut_slice(), &d_added, &inner, outputs, rank);
    matmul::backward_weight(d_a.as_mut_slice(), &d_inner, x.as_slice(), rank, inputs);
    matmul::backward_input(d_x.as_mut_slice(), &d_inner, pair.a.as_slice(), rank, inputs, true);
}

/// `x A^T`: (N, R).
fn inner(x: &Tensor, pair: &LowRank<'_>) -> Vec<f32> {
    let (_, rank, inputs) = sizes(pair);
    let mut inner = vec![0.0; x.rows() * rank];
    matmul::forward(&mut inner, x.as_slice(), pair.a.as_slice(), rank, inputs, false);
    inner
}
