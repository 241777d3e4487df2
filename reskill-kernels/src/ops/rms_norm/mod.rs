//! RMSNorm: scale each row to unit root mean square, then by a learned weight.
//!
//! Source: Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4; `eps` under the root as in Hugging Face's `LlamaRMSNorm`.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use crate::device::{Device, placed};
use crate::dtype::DType;
use crate::error::{KernelError, check_shape};
use crate::tensor::Tensor;

/// `out[n, c] = x[n, c] * rstd[n] * weight[c]`, `rstd[n] = 1 / sqrt(mean_c(x[n, c]^2) + eps)`.
///
/// | argument | shape | dtype | direction |
/// |---|---|---|---|
/// | `out` | (N, C) | T | out |
/// | `rstd` | (N) | f32 | out, kept for the backward pass |
/// | `x` | (N, C) | T | in |
/// | `weight` | (C) | T | in |
///
/// T is f32, or bf16 on a CUDA device.
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::DType`], [`KernelError::Placement`]; errors of the device.
pub fn rms_norm_forward(
    out: &mut Tensor,
    rstd: &mut Tensor,
    x: &Tensor,
    weight: &Tensor,
    eps: f32,
) -> Result<(), KernelError> {
    const OP: &str = "rms_norm_forward";
    check_shape(OP, "out", out.shape(), x.shape())?;
    check_shape(OP, "rstd", rstd.shape(), &[x.rows()])?;
    check_shape(OP, "weight", weight.shape(), &[x.row_len()])?;
    let t = x.dtype();
    let arguments = [x.is("x", t), out.is("out", t), rstd.is("rstd", DType::F32), weight.is("weight", t)];
    match placed(OP, &arguments)? {
        Device::Cpu => cpu::forward(out, rstd, x, weight, eps),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::forward(&device, out, rstd, x, weight, eps)?,
    }
    Ok(())
}

/// [`rms_norm_forward`] of a residual stream that takes up the output of a layer:
///
/// `sum[n, c] = residual[n, c] + x[n, c]`, rounded to T, and
/// `out[n, c] = sum[n, c] * rstd[n] * weight[c]`, `rstd[n] = 1 / sqrt(mean_c(sum[n, c]^2) + eps)`.
///
/// | argument | shape | dtype | direction |
/// |---|---|---|---|
/// | `out` | (N, C) | T | out |
/// | `sum` | (N, C) | T | out: the residual stream from here on, kept for the backward pass |
/// | `rstd` | (N) | f32 | out, kept for the backward pass |
/// | `x` | (N, C) | T | in |
/// | `residual` | (N, C) | T | in |
/// | `weight` | (C) | T | in |
///
/// T is f32, or bf16 on a CUDA device. The bits of `out` and `rstd` are those of [`rms_norm_forward`] on `sum`.
///
/// [`rms_norm_backward`] on `sum` is the backward pass of this as well: it adds to `d_x`, which before holds the gradient
/// that reaches `sum` from elsewhere, and afterwards the gradient of `x` and of `residual`, which are one.
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::DType`], [`KernelError::Placement`]; errors of the device.
pub fn residual_rms_norm_forward(
    out: &mut Tensor,
    sum: &mut Tensor,
    rstd: &mut Tensor,
    x: &Tensor,
    residual: &Tensor,
    weight: &Tensor,
    eps: f32,
) -> Result<(), KernelError> {
    const OP: &str = "residual_rms_norm_forward";
    check_shape(OP, "out", out.shape(), x.shape())?;
    check_shape(OP, "sum", sum.shape(), x.shape())?;
    check_shape(OP, "residual", residual.shape(), x.shape())?;
    check_shape(OP, "rstd", rstd.shape(), &[x.rows()])?;
    check_shape(OP, "weight", weight.shape(), &[x.row_len()])?;
    let t = x.dtype();
    let arguments = [
        x.is("x", t),
        out.is("out", t),
        sum.is("sum", t),
        residual.is("residual", t),
        rstd.is("rstd", DType::F32),
        weight.is("weight", t),
    ];
    match placed(OP, &arguments)? {
        Device::Cpu => cpu::residual_forward((out, sum, rstd), x, residual, weight, eps),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            cuda::residual_forward(&device, (out, sum, rstd), x, residual, weight, eps)?;
        }
    }
    Ok(())
}

/// Gradients of [`rms_norm_forward`], and of [`residual_rms_norm_forward`] with its `sum` as `x`.
///
/// `d_x[n, c] += rstd[n] * (g[n, c] - x[n, c] * rstd[n]^2 * mean_c(g[n, c] * x[n, c]))` with
/// `g[n, c] = d_out[n, c] * weight[c]`, and `d_weight[c] += sum_n d_out[n, c] * x[n, c] * rstd[n]`.
///
/// | argument | shape | dtype | direction |
/// |---|---|---|---|
/// | `d_x` | (N, C) | T | added to |
/// | `d_weight` | (C) | f32 | added to |
/// | `d_out` | (N, C) | T | in |
/// | `x` | (N, C) | T | in |
/// | `weight` | (C) | T | in |
/// | `rstd` | (N) | f32 | in |
///
/// # Errors
/// As [`rms_norm_forward`].
pub fn rms_norm_backward(
    d_x: &mut Tensor,
    d_weight: &mut Tensor,
    d_out: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    rstd: &Tensor,
) -> Result<(), KernelError> {
    const OP: &str = "rms_norm_backward";
    check_shape(OP, "d_x", d_x.shape(), x.shape())?;
    check_shape(OP, "d_out", d_out.shape(), x.shape())?;
    check_shape(OP, "rstd", rstd.shape(), &[x.rows()])?;
    check_shape(OP, "weight", weight.shape(), &[x.row_len()])?;
    check_shape(OP, "d_weight", d_weight.shape(), &[x.row_len()])?;
    let t = x.dtype();
    let arguments = [
        x.is("x", t),
        d_x.is("d_x", t),
        d_weight.is("d_weight", DType::F32),
        d_out.is("d_out", t),
        weight.is("weight", t),
        rstd.is("rstd", DType::F32),
    ];
    match placed(OP, &arguments)? {
        Device::Cpu => cpu::backward(d_x, d_weight, d_out, x, weight, rstd),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::backward(&device, d_x, d_weight, d_out, x, weight, rstd)?,
    }
    Ok(())
}
