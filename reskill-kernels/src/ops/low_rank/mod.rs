//! A low-rank addition to a linear layer: `scale * B A x`, the adapter of LoRA.
//!
//! Source: Hu et al. 2021, arXiv:2106.09685, section 4.1.

use crate::error::{KernelError, check_range, check_shape};
use crate::ops::matmul::cpu as matmul;
use crate::parallel::for_row_blocks;
use crate::tensor::Tensor;

/// The two factors of a low-rank product and where it is added.
#[derive(Debug, Clone, Copy)]
pub struct LowRank<'a> {
    /// (R, I) f32: from inputs to the R inner values.
    pub a: &'a Tensor,
    /// (O, R) f32: from inner values to outputs.
    pub b: &'a Tensor,
    /// Multiplies the product.
    pub scale: f32,
    /// The outputs are the columns `first_column..first_column + O` of what they are added to.
    pub first_column: usize,
}

/// `out[n, first_column + o] += scale * sum_r b[o, r] sum_i a[r, i] x[n, i]`.
///
/// - `out`: (N, W) f32, added to, W >= `first_column` + O
/// - `x`: (N, I) f32
///
/// # Errors
/// [`KernelError::Shape`]; [`KernelError::Range`] if the columns reach beyond `out`.
pub fn low_rank_forward(out: &mut Tensor, x: &Tensor, pair: &LowRank<'_>) -> Result<(), KernelError> {
    check("low_rank_forward", "out", out, x, pair)?;
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
    Ok(())
}

/// Gradients of [`low_rank_forward`].
///
/// | argument | shape | dtype | direction |
/// |---|---|---|---|
/// | `d_x` | (N, I) | f32 | added to |
/// | `d_a` | (R, I) | f32 | added to |
/// | `d_b` | (O, R) | f32 | added to |
/// | `d_out` | (N, W) | f32 | in |
/// | `x` | (N, I) | f32 | in |
///
/// # Errors
/// As [`low_rank_forward`].
pub fn low_rank_backward(
    d_x: &mut Tensor,
    (d_a, d_b): (&mut Tensor, &mut Tensor),
    d_out: &Tensor,
    x: &Tensor,
    pair: &LowRank<'_>,
) -> Result<(), KernelError> {
    const OP: &str = "low_rank_backward";
    check(OP, "d_out", d_out, x, pair)?;
    check_shape(OP, "d_x", d_x.shape(), x.shape())?;
    check_shape(OP, "d_a", d_a.shape(), pair.a.shape())?;
    check_shape(OP, "d_b", d_b.shape(), pair.b.shape())?;
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
    Ok(())
}

/// `x A^T`: (N, R).
fn inner(x: &Tensor, pair: &LowRank<'_>) -> Vec<f32> {
    let (_, rank, inputs) = sizes(pair);
    let mut inner = vec![0.0; x.rows() * rank];
    matmul::forward(&mut inner, x.as_slice(), pair.a.as_slice(), rank, inputs, false);
    inner
}

/// O, R, I.
fn sizes(pair: &LowRank<'_>) -> (usize, usize, usize) {
    (pair.b.rows(), pair.a.rows(), pair.a.row_len())
}

fn check(
    op: &'static str,
    arg: &'static str,
    out: &Tensor,
    x: &Tensor,
    pair: &LowRank<'_>,
) -> Result<(), KernelError> {
    let (outputs, rank, inputs) = sizes(pair);
    check_shape(op, "x", x.shape(), &[x.rows(), inputs])?;
    check_shape(op, "b", pair.b.shape(), &[outputs, rank])?;
    check_shape(op, arg, out.shape(), &[x.rows(), out.row_len()])?;
    check_range(rank > 0 && outputs > 0, op, "rank, outputs", format!("{rank}, {outputs}"), ">= 1")?;
    let end = pair.first_column + outputs;
    check_range(end <= out.row_len(), op, "first_column + O", end, format!("<= {}", out.row_len()))
}
