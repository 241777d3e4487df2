//! RMSNorm of every query head and every key head by itself, before the rotation: what Qwen3 adds to attention.
//!
//! Source: Henry et al. 2020, arXiv:2010.04245, in the form of Hugging Face's `Qwen3Attention`: one weight for all query
//! heads and one for all key heads.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use crate::device::{Device, placed};
use crate::dtype::DType;
use crate::error::{KernelError, check_shape};
use crate::ops::AttentionShape;
use crate::tensor::Tensor;

/// `qkv[n, h, d] = raw[n, h, d] * rstd[n, h] * weight[d]`, `rstd[n, h] = 1 / sqrt(mean_d(raw[n, h, d]^2) + eps)`, for the
/// H query heads with `q_weight` and the K key heads with `k_weight`; values are left alone.
///
/// | argument | shape | dtype | direction |
/// |---|---|---|---|
/// | `qkv` | (N, (H + 2K) D) | T | in place |
/// | `raw` | (N, (H + K) D) | T | out: queries and keys as they were, kept for the backward pass |
/// | `rstd` | (N, H + K) | f32 | out, kept for the backward pass |
/// | `q_weight`, `k_weight` | (D) | T | in |
///
/// T is f32, or bf16 on a CUDA device.
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::DType`], [`KernelError::Placement`]; errors of the device.
pub fn qk_norm_forward(
    qkv: &mut Tensor,
    raw: &mut Tensor,
    rstd: &mut Tensor,
    (q_weight, k_weight): (&Tensor, &Tensor),
    shape: AttentionShape,
    eps: f32,
) -> Result<(), KernelError> {
    const OP: &str = "qk_norm_forward";
    check(OP, "qkv", qkv, raw, rstd, (q_weight, k_weight), shape)?;
    match place(OP, "qkv", qkv, raw, rstd, (q_weight, k_weight))? {
        Device::Cpu => {
            cpu::forward(qkv, raw, rstd, (q_weight.as_slice(), k_weight.as_slice()), shape, eps);
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            cuda::forward(&device, qkv, raw, rstd, (q_weight, k_weight), shape, eps)?;
        }
    }
    Ok(())
}

/// Gradients of [`qk_norm_forward`]; the formula is that of [`crate::ops::rms_norm_backward`], a head at a time.
///
/// | argument | shape | dtype | direction |
/// |---|---|---|---|
/// | `d_qkv` | (N, (H + 2K) D) | T | in place: from above to below the norm |
/// | `d_q_weight`, `d_k_weight` | (D) | f32 | added to |
/// | `raw`, `rstd` | as above | as above | in, from the forward pass |
/// | `q_weight`, `k_weight` | (D) | T | in |
///
/// # Errors
/// As [`qk_norm_forward`].
pub fn qk_norm_backward(
    d_qkv: &mut Tensor,
    (d_q_weight, d_k_weight): (&mut Tensor, &mut Tensor),
    raw: &Tensor,
    rstd: &Tensor,
    (q_weight, k_weight): (&Tensor, &Tensor),
    shape: AttentionShape,
) -> Result<(), KernelError> {
    const OP: &str = "qk_norm_backward";
    check(OP, "d_qkv", d_qkv, raw, rstd, (q_weight, k_weight), shape)?;
    check_shape(OP, "d_q_weight", d_q_weight.shape(), q_weight.shape())?;
    check_shape(OP, "d_k_weight", d_k_weight.shape(), k_weight.shape())?;
    let device = place(OP, "d_qkv", d_qkv, raw, rstd, (q_weight, k_weight))?;
    placed(
        OP,
        &[
            rstd.is("rstd", DType::F32),
            d_q_weight.is("d_q_weight", DType::F32),
            d_k_weight.is("d_k_weight", DType::F32),
        ],
    )?;
    match device {
        Device::Cpu => {
            let d_weights = (d_q_weight.as_mut_slice(), d_k_weight.as_mut_slice());
            cpu::backward(d_qkv, d_weights, raw, rstd, (q_weight.as_slice(), k_weight.as_slice()), shape);
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            let d_weights = (d_q_weight, d_k_weight);
            cuda::backward(&device, d_qkv, d_weights, raw, rstd, (q_weight, k_weight), shape)?;
        }
    }
    Ok(())
}

/// The device of all that forward and backward pass share.
fn place(
    op: &'static str,
    arg: &'static str,
    qkv: &Tensor,
    raw: &Tensor,
    rstd: &Tensor,
    (q_weight, k_weight): (&Tensor, &Tensor),
) -> Result<Device, KernelError> {
    let t = qkv.dtype();
    let arguments = [
        qkv.is(arg, t),
        raw.is("raw", t),
        rstd.is("rstd", DType::F32),
        q_weight.is("q_weight", t),
        k_weight.is("k_weight", t),
    ];
    placed(op, &arguments)
}

fn check(
    op: &'static str,
    arg: &'static str,
    qkv: &Tensor,
    raw: &Tensor,
    rstd: &Tensor,
    (q_weight, k_weight): (&Tensor, &Tensor),
    shape: AttentionShape,
) -> Result<(), KernelError> {
    let (n, heads) = (qkv.rows(), shape.n_heads + shape.n_kv_heads);
    check_shape(op, arg, qkv.shape(), &[n, shape.qkv_width()])?;
    check_shape(op, "raw", raw.shape(), &[n, heads * shape.head_dim])?;
    check_shape(op, "rstd", rstd.shape(), &[n, heads])?;
    check_shape(op, "q_weight", q_weight.shape(), &[shape.head_dim])?;
    check_shape(op, "k_weight", k_weight.shape(), &[shape.head_dim])
}
