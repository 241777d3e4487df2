//! AdamW over all that is trained, with a global gradient clip and a learning-rate schedule.

use std::borrow::Cow;

use reskill_kernels::ops::{AdamWParams, add_sum_squares, clip_scale};
use reskill_kernels::{DType, Device, Tensor};
use reskill_model::{Gradients, ModelConfig, Params, Transformer};
use serde::{Deserialize, Serialize};

use crate::error::{GrpoError, check};
use crate::moments::{MomentPrecision, Moments};
use crate::schedule::Schedule;

/// Numbers of the optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Learning rate after the warm-up, > 0.
    pub learning_rate: f32,
    /// Decay of the first moment, in 0..1.
    pub beta1: f32,
    /// Decay of the second moment, in 0..1.
    pub beta2: f32,
    /// Added to the root of the second moment, > 0.
    pub eps: f32,
    /// Decoupled weight decay, >= 0; norms are not decayed.
    pub weight_decay: f32,
    /// Largest global gradient norm, > 0; longer gradients are scaled down to it.
    pub max_grad_norm: f32,
    /// Steps over which the learning rate rises linearly from 0.
    pub warmup_steps: u64,
    /// How the learning rate falls after that.
    pub schedule: Schedule,
    /// How the moments are kept: `f32`, or `8bit` in about a quarter of the memory.
    pub moments: MomentPrecision,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        OptimizerConfig {
            learning_rate: 1e-6,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            warmup_steps: 0,
            schedule: Schedule::default(),
            moments: MomentPrecision::F32,
        }
    }
}

impl OptimizerConfig {
    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`GrpoError::Config`].
    pub fn validate(&self) -> Result<(), GrpoError> {
        let unit = |x: f32| (0.0..1.0).contains(&x);
        check(
            self.learning_rate > 0.0 && self.learning_rate.is_finite(),
            "optimizer.learning_rate",
            self.learning_rate,
            "a number > 0",
        )?;
        check(unit(self.beta1), "optimizer.beta1", self.beta1, "a number in [0, 1)")?;
        check(unit(self.beta2), "optimizer.beta2", self.beta2, "a number in [0, 1)")?;
        check(self.eps > 0.0 && self.eps.is_finite(), "optimizer.eps", self.eps, "a number > 0")?;
        check(
            self.weight_decay >= 0.0 && self.weight_decay.is_finite(),
            "optimizer.weight_decay",
            self.weight_decay,
            "a number >= 0",
        )?;
        check(
            self.max_grad_norm > 0.0 && self.max_grad_norm.is_finite(),
            "optimizer.max_grad_norm",
            self.max_grad_norm,
            "a number > 0",
        )?;
        self.schedule.validate(self.warmup_steps)
    }
}

/// AdamW and its moments, on the device of the weights. Weights in f32 are their own master copy; of weights in bf16 the
/// optimizer holds one.
#[derive(Debug, Clone, PartialEq)]
pub struct Optimizer {
    config: OptimizerConfig,
    moments: Moments,
    /// In f32, where the weights are stored in fewer bits.
    masters: Option<Gradients>,
    step: u64,
}

impl Optimizer {
    /// An optimizer at step 0 for all weights of a model of this size.
    ///
    /// # Errors
    /// [`GrpoError::Config`].
    pub fn new(model: &ModelConfig, config: &OptimizerConfig) -> Result<Optimizer, GrpoError> {
        let zeros = || Params::zeros(model).map(Gradients::Full);
        Optimizer::restore(config, (zeros()?, zeros()?), 0)
    }

    /// An optimizer at step 0 for what `model` trains: its adapter, or else all its weights.
    ///
    /// # Errors
    /// [`GrpoError::Config`].
    pub fn for_model(model: &Transformer, config: &OptimizerConfig) -> Result<Optimizer, GrpoError> {
        let optimizer = Optimizer::restore(config, (Gradients::zeros(model)?, Gradients::zeros(model)?), 0)?;
        let masters = is_narrow(model).then(|| Gradients::masters(model)).transpose()?;
        Ok(Optimizer { masters, ..optimizer })
    }

    /// An optimizer as it was saved, for `model` on whatever device: `trained` is what it trains, in f32, of which weights
    /// in fewer bits are the rounding.
    ///
    /// # Errors
    /// [`GrpoError::Config`]; [`GrpoError::Kernel`] if the device has no room.
    pub fn restore_for(
        model: &Transformer,
        config: &OptimizerConfig,
        (m, v): (&Gradients, &Gradients),
        trained: &Gradients,
        step: u64,
    ) -> Result<Optimizer, GrpoError> {
        let device = model.device();
        let optimizer = Optimizer::restore(config, (m.to_device(&device)?, v.to_device(&device)?), step)?;
        let masters = is_narrow(model).then(|| trained.to_device(&device)).transpose()?;
        Ok(Optimizer { masters, ..optimizer })
    }

    /// An optimizer as it was saved. Moments kept in eight bits are the same again after they were saved in f32.
    ///
    /// # Errors
    /// [`GrpoError::Config`].
    pub fn restore(
        config: &OptimizerConfig,
        moments: (Gradients, Gradients),
        step: u64,
    ) -> Result<Optimizer, GrpoError> {
        config.validate()?;
        let moments = Moments::new(moments, config.moments)?;
        Ok(Optimizer { config: config.clone(), moments, masters: None, step })
    }

    /// First and second moments in f32, to save.
    ///
    /// # Errors
    /// None on the CPU; [`GrpoError::Kernel`] if a device fails.
    pub fn moments(&self) -> Result<(Cow<'_, Gradients>, Cow<'_, Gradients>), GrpoError> {
        self.moments.to_f32()
    }

    /// What is trained in f32, if the weights themselves are stored in fewer bits: what to save.
    #[must_use]
    pub fn masters(&self) -> Option<&Gradients> {
        self.masters.as_ref()
    }

    /// Updates made so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Learning rate of the last update (before the first: of it).
    #[must_use]
    pub fn learning_rate(&self) -> f32 {
        let factor = self.config.schedule.factor(self.step.max(1), self.config.warmup_steps);
        self.config.learning_rate * factor
    }

    /// One update of `params` by `grads`, whose norm is clipped; returns the norm before clipping.
    ///
    /// # Errors
    /// [`GrpoError::NonFiniteGradient`]: nothing was changed. [`GrpoError::LengthMismatch`] if this is an adapter's
    /// optimizer.
    pub fn update(&mut self, params: &mut Params, grads: &Params) -> Result<f64, GrpoError> {
        self.update_tensors(params.tensors_mut(), &grads.tensors())
    }

    /// One update of what `model` trains, as [`Optimizer::update`].
    ///
    /// # Errors
    /// As [`Optimizer::update`]; [`GrpoError::LengthMismatch`] if `grads` are not those of what is trained.
    pub fn update_model(&mut self, model: &mut Transformer, grads: &Gradients) -> Result<f64, GrpoError> {
        self.update_tensors(model.trainable_mut(), &grads.tensors())
    }

    fn update_tensors(&mut self, weights: Vec<&mut Tensor>, grads: &[&Tensor]) -> Result<f64, GrpoError> {
        for (right, right_len) in [("gradients", grads.len()), ("moments", self.moments.len())] {
            if weights.len() != right_len {
                let left_len = weights.len();
                return Err(GrpoError::LengthMismatch {
                    left: "trained tensors",
                    left_len,
                    right,
                    right_len,
                });
            }
        }
        let device = grads.first().map_or(Device::Cpu, |grad| grad.device());
        let mut squares = Tensor::<f64>::zeros(&[1], &device)?;
        for grad in grads {
            add_sum_squares(&mut squares, grad)?;
        }
        let mut scale = Tensor::zeros(&[1], &device)?;
        clip_scale(&mut scale, &squares, self.config.max_grad_norm)?;
        // A device is waited for once, after all its work was given to it: a factor that is not finite changes nothing.
        self.step += 1;
        let numbers = AdamWParams {
            learning_rate: self.learning_rate(),
            beta1: self.config.beta1,
            beta2: self.config.beta2,
            eps: self.config.eps,
            weight_decay: self.config.weight_decay,
            step: self.step,
            grad_scale: 1.0,
        };
        let masters = self.masters.as_mut().map(Gradients::tensors_mut);
        let stepped = self.moments.step(weights, masters, grads, &scale, &numbers);
        let norm = stepped.and_then(|()| finite_norm(&squares));
        if norm.is_err() {
            self.step -= 1;
        }
        norm
    }
}

/// Whether what `model` trains is stored in fewer bits than f32.
fn is_narrow(model: &Transformer) -> bool {
    model.trainable().first().is_some_and(|tensor| tensor.dtype() != DType::F32)
}

/// The root of a sum of squares, if it is a number.
fn finite_norm(squares: &Tensor<f64>) -> Result<f64, GrpoError> {
    let norm = squares.to_vec()?.into_iter().sum::<f64>().sqrt();
    if norm.is_finite() { Ok(norm) } else { Err(GrpoError::NonFiniteGradient { value: norm }) }
}
