//! Steps of the optimizer, as the learner takes them: the factor that clips the gradient stays on the device.

use anyhow::Result;
use reskill_kernels::ops::{self, AdamWParams, Cost, Moments8, cost};
use reskill_kernels::{DType, KernelError, Tensor};

use super::NotHere;
use super::operation::{Build, Inputs, Operation, relative_error, worse};
use super::sample::{Sample, row_of};
use super::sizes::Model;
use super::update::{capped_rows, capped_shape};

/// The operations of this file.
pub(super) const OPERATIONS: [(&str, Build); 3] = [
    ("adamw", |inputs| Ok(Box::new(AdamW::new(inputs, DType::F32)?))),
    ("adamw_master", |inputs| {
        if inputs.dtype != DType::Bf16 {
            return Err(NotHere("weights that are stored in f32 have no master beside them").into());
        }
        Ok(Box::new(AdamW::new(inputs, DType::Bf16)?))
    }),
    ("adamw_8bit", |inputs| Ok(Box::new(EightBit::new(inputs)?))),
];

/// The factor on the gradient.
const GRAD_SCALE: f32 = 0.5;

const STEP: AdamWParams = AdamWParams {
    learning_rate: 1e-3,
    beta1: 0.9,
    beta2: 0.95,
    eps: 1e-8,
    weight_decay: 0.0,
    step: 1,
    grad_scale: GRAD_SCALE,
};

/// The factor as a tensor of the device.
fn grad_scale(inputs: &Inputs<'_>) -> Result<Tensor> {
    let mut scale = Tensor::zeros(&[1], inputs.device)?;
    scale.fill(GRAD_SCALE)?;
    Ok(scale)
}

/// What the first step adds to a weight: the learning rate, against the gradient.
fn change(grad: f64) -> f64 {
    let grad = f64::from(GRAD_SCALE) * grad;
    -f64::from(STEP.learning_rate) * grad / (grad.abs() + f64::from(STEP.eps))
}

/// Weights, with masters in f32 where they are stored in bf16.
struct AdamW {
    model: Model,
    weight: Tensor,
    master: Option<Tensor>,
    before: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    scale: Tensor,
}

impl AdamW {
    fn new(inputs: &Inputs<'_>, stored: DType) -> Result<AdamW> {
        let shape = [capped_rows(inputs.model), inputs.model.c];
        let before = inputs.wide(1, &shape, 1.0)?;
        let master = if stored == DType::F32 { None } else { Some(before.try_clone()?) };
        Ok(AdamW {
            model: inputs.model,
            weight: before.to_device_as(inputs.device, stored)?,
            master,
            before,
            grad: inputs.wide(2, &shape, 1.0)?,
            m: Tensor::zeros(&shape, inputs.device)?,
            v: Tensor::zeros(&shape, inputs.device)?,
            scale: grad_scale(inputs)?,
        })
    }

    /// What moves by the learning rate.
    fn precise(&self) -> &Tensor {
        self.master.as_ref().unwrap_or(&self.weight)
    }

    /// Of moments and stored weights.
    fn state_error(&self, sample: Sample) -> Result<f64> {
        let [mut m, mut v, mut stored] = [const { Vec::new() }; 3];
        for row in sample.rows(self.weight.rows()) {
            let grad: Vec<f64> =
                row_of(&self.grad, row)?.into_iter().map(|grad| f64::from(GRAD_SCALE) * grad).collect();
            let [keep_m, keep_v] = [STEP.beta1, STEP.beta2].map(f64::from);
            m.extend(row_of(&self.m, row)?.into_iter().zip(grad.iter().map(|g| (1.0 - keep_m) * g)));
            v.extend(row_of(&self.v, row)?.into_iter().zip(grad.iter().map(|g| (1.0 - keep_v) * g * g)));
            stored.extend(row_of(&self.weight, row)?.into_iter().zip(row_of(self.precise(), row)?));
        }
        // A weight in bf16 is its master within 2^-9, which is no error of the step.
        let rounding = if self.master.is_some() { 2.0_f64.powi(-9) } else { 0.0 };
        let stored = (relative_error(stored) - rounding).max(0.0);
        // `1 - beta` is rounded to f32.
        Ok(worse(worse(relative_error(m), relative_error(v)), stored))
    }
}

impl Operation for AdamW {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        capped_shape(self.weight.len(), self.model)
    }
    fn cost(&self) -> Cost {
        match self.master {
            Some(_) => cost::adamw_bf16(self.weight.len()),
            None => cost::adamw(self.weight.len()),
        }
    }
    fn poison(&mut self) -> Result<()> {
        self.weight.copy_from(&self.before)?;
        if let Some(master) = &mut self.master {
            master.copy_from(&self.before)?;
        }
        self.m.fill(0.0)?;
        Ok(self.v.fill(0.0)?)
    }
    fn run(&mut self) -> Result<(), KernelError> {
        let (moments, master) = ((&mut self.m, &mut self.v), self.master.as_mut());
        ops::adamw_scaled(&mut self.weight, master, moments, &self.grad, &self.scale, &STEP)
    }
    fn error(&self, sample: Sample) -> Result<f64> {
        Ok(worse(moved(self.precise(), &self.before, &self.grad, sample)?, self.state_error(sample)?))
    }
    fn tolerance(&self) -> f64 {
        // A weight near 1 moves by 1e-3 give or take a rounding of 6e-8.
        2e-4
    }
    fn outputs(&self) -> Vec<&Tensor> {
        [&self.weight, &self.m, &self.v].into_iter().chain(&self.master).collect()
    }
}

/// Error of what a step added to some rows of a weight.
fn moved(weight: &Tensor, before: &Tensor, grad: &Tensor, sample: Sample) -> Result<f64> {
    let mut pairs = Vec::new();
    for row in sample.rows(weight.rows()) {
        let (after, before) = (row_of(weight, row)?, row_of(before, row)?);
        let added = after.iter().zip(&before).map(|(after, before)| after - before);
        pairs.extend(added.zip(row_of(grad, row)?.into_iter().map(change)));
    }
    Ok(relative_error(pairs))
}

/// Weights in f32 whose moments are kept in eight bits.
struct EightBit {
    model: Model,
    weight: Tensor,
    before: Tensor,
    grad: Tensor,
    moments: Moments8,
    scale: Tensor,
}

impl EightBit {
    fn new(inputs: &Inputs<'_>) -> Result<EightBit> {
        let shape = [capped_rows(inputs.model), inputs.model.c];
        let weight = inputs.wide(1, &shape, 1.0)?;
        Ok(EightBit {
            model: inputs.model,
            before: weight.try_clone()?,
            grad: inputs.wide(2, &shape, 1.0)?,
            moments: Moments8::zeros(weight.len(), inputs.device)?,
            scale: grad_scale(inputs)?,
            weight,
        })
    }
}

impl Operation for EightBit {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        capped_shape(self.weight.len(), self.model)
    }
    fn cost(&self) -> Cost {
        cost::adamw_8bit(self.weight.len())
    }
    fn poison(&mut self) -> Result<()> {
        self.weight.copy_from(&self.before)?;
        self.moments = Moments8::zeros(self.weight.len(), &self.weight.device())?;
        Ok(())
    }
    fn run(&mut self) -> Result<(), KernelError> {
        ops::adamw_8bit_scaled(&mut self.weight, &mut self.moments, &self.grad, &self.scale, &STEP)
    }
    fn error(&self, sample: Sample) -> Result<f64> {
        moved(&self.weight, &self.before, &self.grad, sample)
    }
    fn tolerance(&self) -> f64 {
        // As of moments in f32: those of a first step are rounded after they were used.
        2e-4
    }
    fn outputs(&self) -> Vec<&Tensor> {
        vec![&self.weight]
    }
}
