//! Copies between storages.

use anyhow::Result;
use reskill_kernels::ops::Cost;
use reskill_kernels::{DType, KernelError, Tensor};

use super::NotHere;
use super::operation::{Build, Inputs, Operation, poison, relative_error};
use super::sample::{Sample, row_of};

/// The operations of this file.
pub(super) const OPERATIONS: [(&str, Build); 2] = [
    ("cast_to_bf16", |inputs| cast(inputs, DType::F32, DType::Bf16)),
    ("cast_to_f32", |inputs| cast(inputs, DType::Bf16, DType::F32)),
];

fn cast(inputs: &Inputs<'_>, from: DType, to: DType) -> Result<Box<dyn Operation>> {
    if inputs.device.is_cpu() {
        return Err(NotHere("the CPU stores numbers in f32 alone").into());
    }
    let shape = [inputs.n, inputs.model.c];
    let numbers = inputs.stream(1).numbers(inputs.n * inputs.model.c, 1.0);
    Ok(Box::new(Cast {
        source: Tensor::from_slice(&shape, &numbers, inputs.device, from)?,
        target: Tensor::zeros_as(&shape, inputs.device, to)?,
    }))
}

struct Cast {
    source: Tensor,
    target: Tensor,
}

impl Operation for Cast {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        vec![("N", self.source.rows()), ("C", self.source.row_len())]
    }
    fn cost(&self) -> Cost {
        Cost { bytes: (self.source.bytes() + self.target.bytes()) as u64, flops: 0 }
    }
    fn poison(&mut self) -> Result<()> {
        poison(&mut [&mut self.target])
    }
    fn run(&mut self) -> Result<(), KernelError> {
        self.target.copy_from(&self.source)
    }
    fn error(&self, sample: Sample) -> Result<f64> {
        let mut pairs = Vec::new();
        for n in sample.rows(self.source.rows()) {
            pairs.extend(row_of(&self.target, n)?.into_iter().zip(row_of(&self.source, n)?));
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        // Half of the last place of bf16 is at most so much of a number; to f32 nothing is lost.
        if self.target.dtype() == DType::Bf16 { 2.0_f64.powi(-8) } else { 0.0 }
    }
    fn outputs(&self) -> Vec<&Tensor> {
        vec![&self.target]
    }
}
