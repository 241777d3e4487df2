//! Gradients of what is trained: of all weights, or of an adapter alone.

use std::path::Path;

use reskill_kernels::{DType, Device, Tensor};

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::lora::Lora;
use crate::params::Params;
use crate::transformer::Transformer;
use crate::weights;

/// One tensor for each trainable tensor of a model, in the order of [`Transformer::trainable`].
///
/// A model without an adapter trains all its weights. One with an adapter trains the adapter; its weights are frozen and
/// take no memory here. The moments of an optimizer have the same shape.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there are three of them in a run, and none in a list")]
pub enum Gradients {
    /// Of all weights.
    Full(Params),
    /// Of the adapter.
    Adapter(Lora),
}

impl Gradients {
    /// Zeros for what `model` trains, in f32 on its device.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn zeros(model: &Transformer) -> Result<Gradients, ModelError> {
        Ok(match model.adapter() {
            Some(lora) => Gradients::Adapter(lora.zeros_like()?),
            None => Gradients::Full(Params::zeros_on(model.config(), &model.device(), DType::F32)?),
        })
    }

    /// Those of all weights; `None` if an adapter is trained.
    #[must_use]
    pub fn full(&self) -> Option<&Params> {
        match self {
            Gradients::Full(params) => Some(params),
            Gradients::Adapter(_) => None,
        }
    }

    /// A copy of what `model` trains, in f32: the master copy of weights that are stored in fewer bits.
    ///
    /// # Errors
    /// [`ModelError::Kernel`] if the device has no room.
    pub fn masters(model: &Transformer) -> Result<Gradients, ModelError> {
        let device = model.device();
        Ok(match model.adapter() {
            Some(lora) => Gradients::Adapter(lora.to_device(&device, DType::F32)?),
            None => Gradients::Full(model.params().to_device(&device, DType::F32)?),
        })
    }

    /// A copy on a device, in f32.
    ///
    /// # Errors
    /// [`ModelError::Kernel`] if the device has no room.
    pub fn to_device(&self, device: &Device) -> Result<Gradients, ModelError> {
        Ok(match self {
            Gradients::Full(params) => Gradients::Full(params.to_device(device, DType::F32)?),
            Gradients::Adapter(lora) => Gradients::Adapter(lora.to_device(device, DType::F32)?),
        })
    }

    /// Where they are.
    #[must_use]
    pub fn device(&self) -> Device {
        self.tensors().first().map_or(Device::Cpu, |tensor| tensor.device())
    }

    /// As the bytes of a safetensors file (f32), under the names of what is trained.
    ///
    /// # Errors
    /// [`ModelError::Weights`] if the format refuses the tensors.
    pub fn to_safetensors(&self, config: &ModelConfig) -> Result<Vec<u8>, ModelError> {
        match self {
            Gradients::Full(params) => weights::to_safetensors(config, params),
            Gradients::Adapter(lora) => lora.to_safetensors(),
        }
    }

    /// What [`Gradients::to_safetensors`] wrote for `model`. `path` is named in errors.
    ///
    /// # Errors
    /// [`ModelError::Weights`] lists every tensor that is missing, not expected, or has another shape.
    pub fn from_safetensors(model: &Transformer, bytes: &[u8], path: &Path) -> Result<Gradients, ModelError> {
        let config = model.config();
        Ok(match model.adapter() {
            None => Gradients::Full(weights::from_safetensors(config, bytes, path)?),
            Some(lora) => Gradients::Adapter(Lora::from_safetensors(config, lora.config(), bytes, path)?),
        })
    }

    /// All tensors.
    #[must_use]
    pub fn tensors(&self) -> Vec<&Tensor> {
        match self {
            Gradients::Full(params) => params.tensors(),
            Gradients::Adapter(lora) => lora.tensors(),
        }
    }

    /// All tensors, to write to.
    pub fn tensors_mut(&mut self) -> Vec<&mut Tensor> {
        match self {
            Gradients::Full(params) => params.tensors_mut(),
            Gradients::Adapter(lora) => lora.tensors_mut(),
        }
    }

    /// The gradient of the output head; `None` where it is frozen.
    pub fn head_mut(&mut self) -> Option<&mut Tensor> {
        match self {
            Gradients::Full(params) => Some(params.head_mut()),
            Gradients::Adapter(_) => None,
        }
    }

    /// Sets every element to zero.
    ///
    /// # Errors
    /// None on the CPU; [`ModelError::Kernel`] if a device fails.
    pub fn clear(&mut self) -> Result<(), ModelError> {
        for tensor in self.tensors_mut() {
            tensor.fill(0.0)?;
        }
        Ok(())
    }
}
