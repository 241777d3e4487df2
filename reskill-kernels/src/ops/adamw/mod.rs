//! AdamW: Adam with decoupled weight decay.
//!
//! Source: Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2, with a constant schedule multiplier.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
mod cuda_8bit;
mod eight_bit;

pub use eight_bit::Moments8;

use crate::device::{Device, placed};
use crate::dtype::DType;
use crate::error::{KernelError, check_range, check_shape};
use crate::tensor::Tensor;

/// The numbers of one AdamW step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWParams {
    /// Learning rate.
    pub learning_rate: f32,
    /// Decay of the first moment, in 0..1.
    pub beta1: f32,
    /// Decay of the second moment, in 0..1.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay per step, multiplied by the learning rate.
    pub weight_decay: f32,
    /// Number of this step, from 1: for the bias correction.
    pub step: u64,
    /// Factor on the gradient, from clipping by the global norm.
    pub grad_scale: f32,
}

impl AdamWParams {
    /// `1 - beta1^step` and `1 - beta2^step`.
    fn bias_corrections(&self) -> [f32; 2] {
        [self.beta1, self.beta2].map(|beta| (1.0 - f64::from(beta).powf(self.step as f64)) as f32)
    }
}

/// One step: `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
/// `w -= lr * (m' / (sqrt(v') + eps) + weight_decay * w)` with `m' = m / (1 - b1^step)`, `v' = v / (1 - b2^step)`.
///
/// `weight`, `m`, `v` (f32) are updated in place; `grad` (f32) is read. All have one shape.
///
/// # Errors
/// [`KernelError::Shape`]; [`KernelError::Range`] if `step` is 0; [`KernelError::DType`], [`KernelError::Placement`]; errors
/// of the device.
pub fn adamw(
    weight: &mut Tensor,
    m: &mut Tensor,
    v: &mut Tensor,
    grad: &Tensor,
    params: &AdamWParams,
) -> Result<(), KernelError> {
    let mut scale = Tensor::zeros(&[1], &weight.device())?;
    scale.fill(params.grad_scale)?;
    adamw_scaled(weight, None, (m, v), grad, &scale, params)
}

/// [`adamw`] with the factor on the gradient in a tensor of the device ([`crate::ops::clip_scale`]), so that nobody waits
/// for it, and with a master copy of weights that are stored in bf16. `params.grad_scale` is not read. A factor that is not
/// finite changes nothing.
///
/// | argument | shape | dtype | direction |
/// |---|---|---|---|
/// | `weight` | S | f32, or bf16 on a CUDA device | in place; of bf16, the rounded master |
/// | `master` | S | f32 | in place; there exactly if `weight` is bf16 |
/// | `m`, `v` | S | f32 | in place |
/// | `grad` | S | f32 | in |
/// | `scale` | (1) | f32 | in |
///
/// # Errors
/// As [`adamw`]; [`KernelError::DType`] if bf16 weights have no master or f32 weights have one.
pub fn adamw_scaled(
    weight: &mut Tensor,
    master: Option<&mut Tensor>,
    (m, v): (&mut Tensor, &mut Tensor),
    grad: &Tensor,
    scale: &Tensor,
    params: &AdamWParams,
) -> Result<(), KernelError> {
    const OP: &str = "adamw";
    let shape = weight.shape();
    check_shape(OP, "grad", grad.shape(), shape)?;
    check_shape(OP, "m", m.shape(), shape)?;
    check_shape(OP, "v", v.shape(), shape)?;
    check_shape(OP, "scale", scale.shape(), &[1])?;
    if let Some(master) = &master {
        check_shape(OP, "master", master.shape(), shape)?;
    }
    check_range(params.step > 0, OP, "step", params.step, ">= 1")?;
    let stored = if master.is_some() { DType::Bf16 } else { DType::F32 };
    let arguments = [
        weight.is("weight", stored),
        m.is("m", DType::F32),
        v.is("v", DType::F32),
        grad.is("grad", DType::F32),
        scale.is("scale", DType::F32),
        master.as_deref().unwrap_or(grad).is("master", DType::F32),
    ];
    match placed(OP, &arguments)? {
        Device::Cpu => {
            let params = AdamWParams { grad_scale: scale.as_slice()[0], ..*params };
            if params.grad_scale.is_finite() {
                cpu::step(
                    weight.as_mut_slice(),
                    m.as_mut_slice(),
                    v.as_mut_slice(),
                    grad.as_slice(),
                    &params,
                );
            }
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            cuda::step(&device, OP, cuda::Step { weight, master, m, v, grad, scale }, params)?;
        }
    }
    Ok(())
}

/// [`adamw`] with moments kept in eight bits: 2.03 bytes an element instead of 8. The moments are read, moved and rounded
/// again, block by block; the weights are f32.
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::DType`], [`KernelError::Placement`]; [`KernelError::Range`] if `step` is 0 or `moments` has not one entry an element.
pub fn adamw_8bit(
    weight: &mut Tensor,
    moments: &mut Moments8,
    grad: &Tensor,
    params: &AdamWParams,
) -> Result<(), KernelError> {
    let mut scale = Tensor::zeros(&[1], &weight.device())?;
    scale.fill(params.grad_scale)?;
    adamw_8bit_scaled(weight, moments, grad, &scale, params)
}

/// [`adamw_8bit`] with the factor on the gradient in a tensor of the device, (1) f32, as [`adamw_scaled`] has it.
///
/// # Errors
/// As [`adamw_8bit`].
pub fn adamw_8bit_scaled(
    weight: &mut Tensor,
    moments: &mut Moments8,
    grad: &Tensor,
    scale: &Tensor,
    params: &AdamWParams,
) -> Result<(), KernelError> {
    const OP: &str = "adamw_8bit";
    check_shape(OP, "grad", grad.shape(), weight.shape())?;
    check_shape(OP, "scale", scale.shape(), &[1])?;
    check_range(moments.len() == weight.len(), OP, "moments.len()", moments.len(), weight.len())?;
    check_range(params.step > 0, OP, "step", params.step, ">= 1")?;
    let mut arguments =
        vec![weight.is("weight", DType::F32), grad.is("grad", DType::F32), scale.is("scale", DType::F32)];
    arguments.extend(moments.arguments());
    match placed(OP, &arguments)? {
        Device::Cpu => {
            let params = AdamWParams { grad_scale: scale.as_slice()[0], ..*params };
            if params.grad_scale.is_finite() {
                eight_bit::step(weight.as_mut_slice(), moments, grad.as_slice(), &params);
            }
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda_8bit::step(&device, weight, moments, grad, scale, params)?,
    }
    Ok(())
}
