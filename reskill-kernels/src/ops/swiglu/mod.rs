//! SwiGLU: a gated activation.
//!
//! Source: Shazeer 2020, arXiv:2002.05202.

mod cpu;

use crate::error::{KernelError, check_shape};
use crate::tensor::Tensor;

/// `out[n, f] = silu(gate[n, f]) * up[n, f]` with `silu(z) = z / (1 + e^-z)`.
///
/// - `out`: (N, F) f32, overwritten
/// - `gate_up`: (N, 2F) f32, the gates of a row before its ups
///
/// # Errors
/// [`KernelError::Shape`].
pub fn swiglu_forward(out: &mut Tensor, gate_up: &Tensor) -> Result<(), KernelError> {
    check_shape("swiglu_forward", "gate_up", gate_up.shape(), &[out.rows(), 2 * out.row_len()])?;
    cpu::forward(out, gate_up);
    Ok(())
}

/// The gradient of [`swiglu_forward`].
///
/// `d_gate = d_out * up * s (1 + gate (1 - s))`, `d_up = d_out * gate * s`, with `s = 1 / (1 + e^-gate)`.
///
/// - `d_gate_up`: (N, 2F) f32, overwritten
/// - `d_out`: (N, F) f32
/// - `gate_up`: (N, 2F) f32
///
/// # Errors
/// [`KernelError::Shape`].
pub fn swiglu_backward(d_gate_up: &mut Tensor, d_out: &Tensor, gate_up: &Tensor) -> Result<(), KernelError> {
    const OP: &str = "swiglu_backward";
    check_shape(OP, "gate_up", gate_up.shape(), &[d_out.rows(), 2 * d_out.row_len()])?;
    check_shape(OP, "d_gate_up", d_gate_up.shape(), gate_up.shape())?;
    cpu::backward(d_gate_up, d_out, gate_up);
    Ok(())
}
