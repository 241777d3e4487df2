//! A bias: one number a column, added to every row.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use crate::device::{Device, placed};
use crate::dtype::DType;
use crate::error::{KernelError, check_shape};
use crate::tensor::Tensor;

/// `out[n, o] += bias[o]`.
///
/// - `out`: (N, O) T, added to
/// - `bias`: (O) T
///
/// T is f32, or bf16 on a CUDA device.
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::DType`], [`KernelError::Placement`]; errors of the device.
pub fn bias_forward(out: &mut Tensor, bias: &Tensor) -> Result<(), KernelError> {
    const OP: &str = "bias_forward";
    check_shape(OP, "bias", bias.shape(), &[out.row_len()])?;
    let t = out.dtype();
    match placed(OP, &[out.is("out", t), bias.is("bias", t)])? {
        Device::Cpu => cpu::forward(out, bias),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::forward(&device, out, bias)?,
    }
    Ok(())
}

/// `d_bias[o] += sum_n d_out[n, o]`, in blocks of rows that are added in their order.
///
/// - `d_bias`: (O) f32, added to
/// - `d_out`: (N, O) T
///
/// # Errors
/// As [`bias_forward`].
pub fn bias_backward(d_bias: &mut Tensor, d_out: &Tensor) -> Result<(), KernelError> {
    const OP: &str = "bias_backward";
    check_shape(OP, "d_bias", d_bias.shape(), &[d_out.row_len()])?;
    match placed(OP, &[d_out.is("d_out", d_out.dtype()), d_bias.is("d_bias", DType::F32)])? {
        Device::Cpu => cpu::backward(d_bias, d_out),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::backward(&device, d_bias, d_out)?,
    }
    Ok(())
}
