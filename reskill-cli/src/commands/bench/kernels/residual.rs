//! The norm that adds to the residual stream in the same pass.

use anyhow::Result;
use reskill_kernels::ops::{self, Cost, cost};
use reskill_kernels::{KernelError, Tensor};

use super::exact::inner;
use super::operation::{Build, Inputs, Operation, poison, relative_error, worse};
use super::sample::{Sample, row_of, value_of};

/// Under the root.
const EPS: f32 = 1e-5;

/// The operations of this file.
pub(super) const OPERATIONS: [(&str, Build); 1] =
    [("residual_rms_norm_forward", |inputs| Ok(Box::new(ResidualNorm::new(inputs)?)))];

struct ResidualNorm {
    out: Tensor,
    sum: Tensor,
    rstd: Tensor,
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    size: usize,
    tolerance: f64,
}

impl ResidualNorm {
    fn new(inputs: &Inputs<'_>) -> Result<ResidualNorm> {
        let shape = [inputs.n, inputs.model.c];
        Ok(ResidualNorm {
            out: inputs.tensor(1, &shape, 1.0)?,
            sum: inputs.tensor(2, &shape, 1.0)?,
            rstd: inputs.wide(3, &[inputs.n], 1.0)?,
            x: inputs.tensor(4, &shape, 2.0)?,
            residual: inputs.tensor(5, &shape, 2.0)?,
            weight: inputs.tensor(6, &[inputs.model.c], 1.0)?,
            size: inputs.size(),
            tolerance: inputs.rounding(1e-5),
        })
    }
}

impl Operation for ResidualNorm {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        vec![("N", self.x.rows()), ("C", self.x.row_len())]
    }
    fn cost(&self) -> Cost {
        cost::residual_rms_norm_forward(self.x.rows(), self.x.row_len(), self.size)
    }
    fn poison(&mut self) -> Result<()> {
        poison(&mut [&mut self.out, &mut self.sum, &mut self.rstd])
    }
    fn run(&mut self) -> Result<(), KernelError> {
        let (out, sum, rstd) = (&mut self.out, &mut self.sum, &mut self.rstd);
        ops::residual_rms_norm_forward(out, sum, rstd, &self.x, &self.residual, &self.weight, EPS)
    }
    /// The sum against its addends; the norm against the sum as it is stored.
    fn error(&self, sample: Sample) -> Result<f64> {
        let weight = self.weight.to_vec()?;
        let (mut sums, mut normed, mut statistics) = (Vec::new(), Vec::new(), Vec::new());
        for n in sample.rows(self.x.rows()) {
            let (x, residual, sum) = (row_of(&self.x, n)?, row_of(&self.residual, n)?, row_of(&self.sum, n)?);
            let rstd = 1.0 / (inner(&sum, &sum) / sum.len() as f64 + f64::from(EPS)).sqrt();
            let want = sum.iter().zip(&weight).map(|(sum, &weight)| sum * rstd * f64::from(weight));
            normed.extend(row_of(&self.out, n)?.into_iter().zip(want));
            statistics.push((value_of(&self.rstd, n)?, rstd));
            sums.extend(sum.into_iter().zip(x.iter().zip(&residual).map(|(x, residual)| x + residual)));
        }
        Ok(worse(worse(relative_error(sums), relative_error(normed)), relative_error(statistics)))
    }
    fn tolerance(&self) -> f64 {
        self.tolerance
    }
    fn outputs(&self) -> Vec<&Tensor> {
        vec![&self.out, &self.sum, &self.rstd]
    }
}
