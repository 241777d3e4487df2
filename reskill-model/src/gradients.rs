//! Gradients of what is trained: of all weights, or of an adapter alone.

use reskill_kernels::Tensor;

use crate::error::ModelError;
use crate::lora::Lora;
use crate::params::Params;
use crate::transformer::Transformer;

/// One tensor for each trainable tensor of a model, in the order of [`Transformer::trainable`].
///
/// A model without an adapter trains all its weights. One with an adapter trains the adapter; its weights are frozen and
/// take no memory here. The moments of an optimizer have the same shape.
#[derive(Debug, Clone, PartialEq)]
pub enum Gradients {
    /// Of all weights.
    Full(Params),
    /// Of the adapter.
    Adapter(Lora),
}

impl Gradients {
    /// Zeros for what `model` trains.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn zeros(model: &Transformer) -> Result<Gradients, ModelError> {
        Ok(match model.adapter() {
            Some(lora) => Gradients::Adapter(lora.zeros_like()),
            None => Gradients::Full(Params::zeros(model.config())?),
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
    pub fn clear(&mut self) {
        self.tensors_mut().into_iter().for_each(|tensor| tensor.fill(0.0));
    }
}
