//! A low-rank addition to a linear layer: `scale * B A x`, the adapter of LoRA.
//!
//! Source: Hu et al. 2021, arXiv:2106.09685, section 4.1.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use crate::device::{Device, placed};
use crate::dtype::DType;
use crate::error::{KernelError, check_range, check_shape};
use crate::tensor::Tensor;

/// The two factors of a low-rank product and where it is added.
#[derive(Debug, Clone, Copy)]
pub struct LowRank<'a> {
    /// (R, I): from inputs to the R inner values, stored as the inputs.
    pub a: &'a Tensor,
    /// (O, R): from inner values to outputs, stored as the inputs.
    pub b: &'a Tensor,
    /// Multiplies the product.
    pub scale: f32,
    /// The outputs are the columns `first_column..first_column + O` of what they are added to.
    pub first_column: usize,
}

/// `out[n, first_column + o] += scale * sum_r b[o, r] sum_i a[r, i] x[n, i]`.
///
/// - `out`: (N, W) T, added to, W >= `first_column` + O
/// - `x`: (N, I) T
///
/// T is f32, or bf16 on a CUDA device.
///
/// # Errors
/// [`KernelError::Shape`]; [`KernelError::Range`] if the columns reach beyond `out`; [`KernelError::DType`],
/// [`KernelError::Placement`]; errors of the device.
pub fn low_rank_forward(out: &mut Tensor, x: &Tensor, pair: &LowRank<'_>) -> Result<(), KernelError> {
    const OP: &str = "low_rank_forward";
    check(OP, "out", out, x, pair)?;
    let t = x.dtype();
    match placed(OP, &[x.is("x", t), out.is("out", t), pair.a.is("a", t), pair.b.is("b", t)])? {
        Device::Cpu => cpu::forward(out, x, pair),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::forward(&device, out, x, pair)?,
    }
    Ok(())
}

/// Gradients of [`low_rank_forward`].
///
/// | argument | shape | dtype | direction |
/// |---|---|---|---|
/// | `d_x` | (N, I) | T | added to |
/// | `d_a` | (R, I) | f32 | added to |
/// | `d_b` | (O, R) | f32 | added to |
/// | `d_out` | (N, W) | T | in |
/// | `x` | (N, I) | T | in |
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
    let t = x.dtype();
    let arguments = [
        x.is("x", t),
        d_x.is("d_x", t),
        d_a.is("d_a", DType::F32),
        d_b.is("d_b", DType::F32),
        d_out.is("d_out", t),
        pair.a.is("a", t),
        pair.b.is("b", t),
    ];
    match placed(OP, &arguments)? {
        Device::Cpu => cpu::backward(d_x, (d_a, d_b), d_out, x, pair),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::backward(&device, d_x, (d_a, d_b), d_out, x, pair)?,
    }
    Ok(())
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
