//! The full divergence of two distributions over the whole vocabulary.

use anyhow::Result;
use reskill_kernels::ops::{self, Cost, Distribution, cost};
use reskill_kernels::{KernelError, Tensor};

use super::exact::weighted_rows;
use super::head::Logprob;
use super::operation::{Build, Inputs, Operation, poison, relative_error};
use super::sample::{Sample, row_of, value_of};

/// The operations of this file.
pub(super) const OPERATIONS: [(&str, Build); 2] = [
    ("linear_kl_forward", |inputs| Ok(Box::new(Divergence::new(inputs)?))),
    ("linear_kl_backward", |inputs| Ok(Box::new(DivergenceBackward::new(inputs)?))),
];

struct Divergence {
    policy: Logprob,
    reference: Logprob,
    kl: Tensor,
}

impl Divergence {
    fn new(inputs: &Inputs<'_>) -> Result<Divergence> {
        let (mut policy, mut reference) =
            (Logprob::new(inputs)?, Logprob::new(&Inputs { seed: inputs.seed ^ 1, ..*inputs })?);
        policy.run()?;
        reference.run()?;
        Ok(Divergence { policy, reference, kl: inputs.wide(11, &[inputs.n], 1.0)? })
    }
}

impl Operation for Divergence {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        self.policy.shape()
    }
    fn cost(&self) -> Cost {
        let (n, c, v) = self.policy.sizes();
        cost::linear_kl_forward(n, c, c, v, self.policy.size)
    }
    fn poison(&mut self) -> Result<()> {
        poison(&mut [&mut self.kl])
    }
    fn run(&mut self) -> Result<(), KernelError> {
        let (p, q) = (distribution(&self.policy), distribution(&self.reference));
        ops::linear_kl_forward(&mut self.kl, p, q, &self.policy.allowed, 1.0)
    }
    fn error(&self, sample: Sample) -> Result<f64> {
        let mut pairs = Vec::new();
        for (p, q) in self.policy.exact(sample)?.into_iter().zip(self.reference.exact(sample)?) {
            pairs.push((value_of(&self.kl, p.row)?, divergence(&p.logprobs, &q.logprobs)));
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        3e-5
    }
    fn outputs(&self) -> Vec<&Tensor> {
        vec![&self.kl]
    }
}

/// `sum_v p[v] (log p[v] - log q[v])`.
fn divergence(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum()
}

fn distribution(it: &Logprob) -> Distribution<'_> {
    Distribution { hidden: &it.hidden, head: &it.head, lse: &it.columns[2] }
}

struct DivergenceBackward {
    forward: Divergence,
    d_hidden: Tensor,
    d_head: Tensor,
    d_kl: Tensor,
    tolerance: f64,
}

impl DivergenceBackward {
    fn new(inputs: &Inputs<'_>) -> Result<DivergenceBackward> {
        let mut forward = Divergence::new(inputs)?;
        forward.run()?;
        let (n, c, v) = forward.policy.sizes();
        Ok(DivergenceBackward {
            forward,
            d_hidden: inputs.tensor(12, &[n, c], 1.0)?,
            d_head: inputs.wide(13, &[v, c], 1.0)?,
            d_kl: inputs.wide(14, &[n], 1.0)?,
            tolerance: inputs.rounding(2e-4),
        })
    }
}

impl Operation for DivergenceBackward {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        self.forward.shape()
    }
    fn cost(&self) -> Cost {
        let (n, c, v) = self.forward.policy.sizes();
        cost::linear_kl_backward(n, c, c, v, self.forward.policy.size)
    }
    fn poison(&mut self) -> Result<()> {
        self.d_hidden.fill(0.0)?;
        Ok(self.d_head.fill(0.0)?)
    }
    fn run(&mut self) -> Result<(), KernelError> {
        let Divergence { policy, reference, kl } = &self.forward;
        let (d_hidden, d_head, allowed) = (&mut self.d_hidden, &mut self.d_head, &policy.allowed);
        let (p, q) = (distribution(policy), distribution(reference));
        ops::linear_kl_backward(d_hidden, d_head, &self.d_kl, kl, p, q, allowed, 1.0)
    }
    fn error(&self, sample: Sample) -> Result<f64> {
        let Divergence { policy, reference, .. } = &self.forward;
        let (mut rows, mut d_logits) = (Vec::new(), Vec::new());
        for (p, q) in policy.exact(sample)?.into_iter().zip(reference.exact(sample)?) {
            let (d_kl, kl) = (value_of(&self.d_kl, p.row)?, divergence(&p.logprobs, &q.logprobs));
            let of_token = |(p, q): (&f64, &f64)| d_kl * p.exp() * (p - q - kl);
            d_logits.push(p.logprobs.iter().zip(&q.logprobs).map(of_token).collect());
            rows.push(p.row);
        }
        let mut pairs = Vec::new();
        for (row, want) in rows.into_iter().zip(weighted_rows(&d_logits, &policy.head)?) {
            pairs.extend(row_of(&self.d_hidden, row)?.into_iter().zip(want));
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        self.tolerance
    }
    fn outputs(&self) -> Vec<&Tensor> {
        vec![&self.d_hidden, &self.d_head]
    }
}
