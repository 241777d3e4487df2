//! Linear layers: products with a weight stored as Hugging Face stores it, (outputs, inputs).

pub(crate) mod cpu;
mod gemm;

use crate::error::{KernelError, check_shape};
use crate::tensor::Tensor;

/// `out[n, o] = sum_i x[n, i] * weight[o, i]`, plus the old `out` if `accumulate`.
///
/// - `out`: (N, O) f32, overwritten or added to
/// - `x`: (N, I) f32
/// - `weight`: (O, I) f32
///
/// # Errors
/// [`KernelError::Shape`].
pub fn matmul(out: &mut Tensor, x: &Tensor, weight: &Tensor, accumulate: bool) -> Result<(), KernelError> {
    check("matmul", "out", out, x, weight)?;
    cpu::forward(
        out.as_mut_slice(),
        x.as_slice(),
        weight.as_slice(),
        weight.rows(),
        weight.row_len(),
        accumulate,
    );
    Ok(())
}

/// `d_x[n, i] = sum_o d_out[n, o] * weight[o, i]`, plus the old `d_x` if `accumulate`.
///
/// - `d_x`: (N, I) f32, overwritten or added to
/// - `d_out`: (N, O) f32
/// - `weight`: (O, I) f32
///
/// # Errors
/// [`KernelError::Shape`].
pub fn matmul_backward_input(
    d_x: &mut Tensor,
    d_out: &Tensor,
    weight: &Tensor,
    accumulate: bool,
) -> Result<(), KernelError> {
    check("matmul_backward_input", "d_out", d_out, d_x, weight)?;
    cpu::backward_input(
        d_x.as_mut_slice(),
        d_out.as_slice(),
        weight.as_slice(),
        weight.rows(),
        weight.row_len(),
        accumulate,
    );
    Ok(())
}

/// `d_weight[o, i] += sum_n d_out[n, o] * x[n, i]`.
///
/// - `d_weight`: (O, I) f32, added to
/// - `d_out`: (N, O) f32
/// - `x`: (N, I) f32
///
/// # Errors
/// [`KernelError::Shape`].
pub fn matmul_backward_weight(d_weight: &mut Tensor, d_out: &Tensor, x: &Tensor) -> Result<(), KernelError> {
    check("matmul_backward_weight", "d_out", d_out, x, d_weight)?;
    let (outputs, inputs) = (d_weight.rows(), d_weight.row_len());
    cpu::backward_weight(d_weight.as_mut_slice(), d_out.as_slice(), x.as_slice(), outputs, inputs);
    Ok(())
}

fn check(
    op: &'static str,
    arg: &'static str,
    out: &Tensor,
    x: &Tensor,
    weight: &Tensor,
) -> Result<(), KernelError> {
    check_shape(op, "weight", weight.shape(), &[weight.rows(), x.row_len()])?;
    check_shape(op, arg, out.shape(), &[x.rows(), weight.rows()])
}
