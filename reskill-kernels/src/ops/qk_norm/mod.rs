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
use crate::ops::rope::{RopeTable, check as check_rotation, rope_backward, rope_forward};
use crate::tensor::Tensor;

/// Where rows stand, and the angles of positions.
#[derive(Debug, Clone, Copy)]
pub struct Rotation<'a> {
    /// (N) u32, each below the table's rows.
    pub positions: &'a Tensor<u32>,
    /// (P, D/2) twice.
    pub table: &'a RopeTable,
}

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
    forward("qk_norm_forward", qkv, raw, rstd, (q_weight, k_weight), None, shape, eps)
}

/// [`qk_norm_forward`], then [`rope_forward`] of the same heads: one pass over them on a CUDA device where D is 16, 32, 64,
/// 128 or 256, without the rounding to T between the two.
///
/// # Errors
/// As of both.
pub fn qk_norm_rope_forward(
    qkv: &mut Tensor,
    raw: &mut Tensor,
    rstd: &mut Tensor,
    (q_weight, k_weight): (&Tensor, &Tensor),
    rotation: Rotation<'_>,
    shape: AttentionShape,
    eps: f32,
) -> Result<(), KernelError> {
    forward("qk_norm_rope_forward", qkv, raw, rstd, (q_weight, k_weight), Some(rotation), shape, eps)
}

#[expect(clippy::too_many_arguments, reason = "those of the operation")]
fn forward(
    op: &'static str,
    qkv: &mut Tensor,
    raw: &mut Tensor,
    rstd: &mut Tensor,
    (q_weight, k_weight): (&Tensor, &Tensor),
    rotation: Option<Rotation<'_>>,
    shape: AttentionShape,
    eps: f32,
) -> Result<(), KernelError> {
    check(op, "qkv", qkv, raw, rstd, (q_weight, k_weight), shape)?;
    check_turns(op, qkv, rotation, shape)?;
    match place(op, "qkv", qkv, raw, rstd, (q_weight, k_weight))? {
        Device::Cpu => {
            cpu::forward(qkv, raw, rstd, (q_weight.as_slice(), k_weight.as_slice()), shape, eps);
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            let fused = rotation.filter(|_| cuda::rotates(shape.head_dim));
            cuda::forward(&device, qkv, raw, rstd, (q_weight, k_weight), fused, shape, eps)?;
            if fused.is_some() {
                return Ok(());
            }
        }
    }
    match rotation {
        Some(Rotation { positions, table }) => rope_forward(qkv, positions, table, heads(shape)),
        None => Ok(()),
    }
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
    let d_weights = (d_q_weight, d_k_weight);
    backward("qk_norm_backward", d_qkv, d_weights, raw, rstd, (q_weight, k_weight), None, shape)
}

/// Gradients of [`qk_norm_rope_forward`]: [`rope_backward`], then [`qk_norm_backward`], in one pass where the forward pass is.
///
/// # Errors
/// As of both.
pub fn qk_norm_rope_backward(
    d_qkv: &mut Tensor,
    d_weights: (&mut Tensor, &mut Tensor),
    raw: &Tensor,
    rstd: &Tensor,
    weights: (&Tensor, &Tensor),
    rotation: Rotation<'_>,
    shape: AttentionShape,
) -> Result<(), KernelError> {
    backward("qk_norm_rope_backward", d_qkv, d_weights, raw, rstd, weights, Some(rotation), shape)
}

#[expect(clippy::too_many_arguments, reason = "those of the operation")]
fn backward(
    op: &'static str,
    d_qkv: &mut Tensor,
    (d_q_weight, d_k_weight): (&mut Tensor, &mut Tensor),
    raw: &Tensor,
    rstd: &Tensor,
    (q_weight, k_weight): (&Tensor, &Tensor),
    rotation: Option<Rotation<'_>>,
    shape: AttentionShape,
) -> Result<(), KernelError> {
    check(op, "d_qkv", d_qkv, raw, rstd, (q_weight, k_weight), shape)?;
    check_turns(op, d_qkv, rotation, shape)?;
    check_shape(op, "d_q_weight", d_q_weight.shape(), q_weight.shape())?;
    check_shape(op, "d_k_weight", d_k_weight.shape(), k_weight.shape())?;
    let device = place(op, "d_qkv", d_qkv, raw, rstd, (q_weight, k_weight))?;
    placed(
        op,
        &[
            rstd.is("rstd", DType::F32),
            d_q_weight.is("d_q_weight", DType::F32),
            d_k_weight.is("d_k_weight", DType::F32),
        ],
    )?;
    #[cfg(feature = "cuda")]
    if let (Device::Cuda(device), true) = (&device, rotation.is_some() && cuda::rotates(shape.head_dim)) {
        let d_weights = (d_q_weight, d_k_weight);
        return cuda::backward(device, d_qkv, d_weights, raw, rstd, (q_weight, k_weight), rotation, shape);
    }
    if let Some(Rotation { positions, table }) = rotation {
        rope_backward(d_qkv, positions, table, heads(shape))?;
    }
    match device {
        Device::Cpu => {
            let d_weights = (d_q_weight.as_mut_slice(), d_k_weight.as_mut_slice());
            cpu::backward(d_qkv, d_weights, raw, rstd, (q_weight.as_slice(), k_weight.as_slice()), shape);
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            let d_weights = (d_q_weight, d_k_weight);
            cuda::backward(&device, d_qkv, d_weights, raw, rstd, (q_weight, k_weight), None, shape)?;
        }
    }
    Ok(())
}

fn heads(shape: AttentionShape) -> usize {
    shape.n_heads + shape.n_kv_heads
}

fn check_turns(
    op: &'static str,
    qkv: &Tensor,
    rotation: Option<Rotation<'_>>,
    shape: AttentionShape,
) -> Result<(), KernelError> {
    let Some(Rotation { positions, table }) = rotation else { return Ok(()) };
    check_shape(op, "table.cos", table.cos.shape(), &[table.cos.rows(), shape.head_dim / 2])?;
    check_shape(op, "table.sin", table.sin.shape(), table.cos.shape())?;
    check_rotation(op, qkv, positions, table, heads(shape))?;
    let arguments = [
        qkv.is("qkv", qkv.dtype()),
        positions.is("positions", DType::U32),
        table.cos.is("table.cos", DType::F32),
        table.sin.is("table.sin", DType::F32),
    ];
    placed(op, &arguments)?;
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
