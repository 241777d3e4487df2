//! Sum of squares: the part of a gradient norm that one tensor adds; and the factor that clips by that norm.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use crate::device::{Device, placed};
use crate::dtype::DType;
use crate::error::{KernelError, check_shape};
use crate::tensor::Tensor;

/// `sum x^2` over all elements, accumulated in f64 in a fixed order. On a CUDA device this waits for the result.
///
/// - `x`: any shape, f32
///
/// # Errors
/// [`KernelError::DType`]; errors of the device.
pub fn sum_squares(x: &Tensor) -> Result<f64, KernelError> {
    let mut total = Tensor::zeros(&[1], &x.device())?;
    add_sum_squares(&mut total, x)?;
    Ok(total.to_vec()?.iter().sum())
}

/// `total += sum x^2` over all elements, in f64 and a fixed order, without waiting for a device.
///
/// - `total`: (1) f64, added to
/// - `x`: any shape, f32
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::DType`], [`KernelError::Placement`]; errors of the device.
pub fn add_sum_squares(total: &mut Tensor<f64>, x: &Tensor) -> Result<(), KernelError> {
    const OP: &str = "add_sum_squares";
    check_shape(OP, "total", total.shape(), &[1])?;
    match placed(OP, &[x.is("x", DType::F32), total.is("total", DType::F64)])? {
        Device::Cpu => total.as_mut_slice()[0] += cpu::sum(x.as_slice()),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::add(&device, total, x)?,
    }
    Ok(())
}

/// The factor that scales a gradient down to the norm `limit`: `min(1, limit / sqrt(total))`; NaN if `total` is not
/// finite, which [`crate::ops::adamw_scaled`] takes for "change nothing". Without waiting for a device.
///
/// - `scale`: (1) f32, overwritten
/// - `total`: (1) f64, the square of the norm
///
/// # Errors
/// As [`add_sum_squares`].
pub fn clip_scale(scale: &mut Tensor, total: &Tensor<f64>, limit: f32) -> Result<(), KernelError> {
    const OP: &str = "clip_scale";
    check_shape(OP, "scale", scale.shape(), &[1])?;
    check_shape(OP, "total", total.shape(), &[1])?;
    match placed(OP, &[total.is("total", DType::F64), scale.is("scale", DType::F32)])? {
        Device::Cpu => {
            let (norm, limit) = (total.as_slice()[0].sqrt(), f64::from(limit));
            let factor = if norm > limit { limit / norm } else { 1.0 };
            scale.as_mut_slice()[0] = if norm.is_finite() { factor as f32 } else { f32::NAN };
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::clip(&device, scale, total, limit)?,
    }
    Ok(())
}
