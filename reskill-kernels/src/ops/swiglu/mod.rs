//! SwiGLU: a gated activation.
//!
//! Source: Shazeer 2020, arXiv:2002.05202.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use crate::device::{Device, placed};
use crate::error::{KernelError, check_shape};
use crate::tensor::Tensor;

/// `out[n, f] = silu(gate[n, f]) * up[n, f]` with `silu(z) = z / (1 + e^-z)`.
///
/// - `out`: (N, F) T, overwritten
/// - `gate_up`: (N, 2F) T, the gates of a row before its ups
///
/// T is f32, or bf16 on a CUDA device.
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::DType`], [`KernelError::Placement`]; errors of the device.
pub fn swiglu_forward(out: &mut Tensor, gate_up: &Tensor) -> Result<(), KernelError> {
    const OP: &str = "swiglu_forward";
    check_shape(OP, "gate_up", gate_up.shape(), &[out.rows(), 2 * out.row_len()])?;
    let t = gate_up.dtype();
    match placed(OP, &[gate_up.is("gate_up", t), out.is("out", t)])? {
        Device::Cpu => cpu::forward(out, gate_up),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::forward(&device, out, gate_up)?,
    }
    Ok(())
}

/// The gradient of [`swiglu_forward`].
///
/// `d_gate = d_out * up * s (1 + gate (1 - s))`, `d_up = d_out * gate * s`, with `s = 1 / (1 + e^-gate)`.
///
/// - `d_gate_up`: (N, 2F) T, overwritten
/// - `d_out`: (N, F) T
/// - `gate_up`: (N, 2F) T
///
/// # Errors
/// As [`swiglu_forward`].
pub fn swiglu_backward(d_gate_up: &mut Tensor, d_out: &Tensor, gate_up: &Tensor) -> Result<(), KernelError> {
    const OP: &str = "swiglu_backward";
    check_shape(OP, "gate_up", gate_up.shape(), &[d_out.rows(), 2 * d_out.row_len()])?;
    check_shape(OP, "d_gate_up", d_gate_up.shape(), gate_up.shape())?;
    let t = gate_up.dtype();
    match placed(OP, &[gate_up.is("gate_up", t), d_gate_up.is("d_gate_up", t), d_out.is("d_out", t)])? {
        Device::Cpu => cpu::backward(d_gate_up, d_out, gate_up),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::backward(&device, d_gate_up, d_out, gate_up)?,
    }
    Ok(())
}
