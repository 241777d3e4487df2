//! The loss, the optimizer, the gradient's norm.

use anyhow::Result;
use reskill_kernels::ops::{
    self, AdamWParams, Cost, GrpoLossInputs, GrpoLossParams, GrpoLossSums, KlEstimator, Moments8, RatioLevel,
    Surrogate, cost,
};
use reskill_kernels::{KernelError, Tensor};

use super::operation::{Build, Inputs, Operation, poison, relative_error, values};

/// The operations of this file.
pub(super) const OPERATIONS: [(&str, Build); 4] = [
    ("grpo_loss", |inputs| Ok(Box::new(Loss::new(inputs)?))),
    ("sum_squares", |inputs| Ok(Box::new(SumSquares::new(inputs)?))),
    ("adamw", |inputs| Ok(Box::new(Optimizer::new(inputs, false)?))),
    ("adamw_8bit", |inputs| Ok(Box::new(Optimizer::new(inputs, true)?))),
];

const LOSS: GrpoLossParams = GrpoLossParams {
    surrogate: Surrogate::Clip,
    clip_low: 0.2,
    clip_high: 0.2,
    dual_clip: None,
    ratio: RatioLevel::Token,
    kl: KlEstimator::K3,
    kl_coef: 0.01,
    entropy_coef: 0.0,
    log_ratio_clamp: None,
    k3_clamp: None,
    importance_truncation: None,
};

struct Loss {
    /// logprobs, old, reference, entropy, advantages, weights, d_logprobs, d_entropy.
    columns: [Tensor; 8],
    sums: Tensor<f64>,
    sequences: Tensor<u32>,
}

impl Loss {
    fn new(inputs: &Inputs<'_>) -> Result<Loss> {
        let column = |stream| inputs.wide(stream, &[inputs.n], 1.0);
        let mut columns =
            [column(1)?, column(2)?, column(3)?, column(4)?, column(5)?, column(6)?, column(7)?, column(8)?];
        columns[5].fill(1.0 / inputs.n as f32)?;
        let sums = Tensor::zeros(&[9], inputs.device)?;
        Ok(Loss { columns, sums, sequences: inputs.ids(9, inputs.n, 1)? })
    }
}

impl Operation for Loss {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        vec![("N", self.columns[0].len())]
    }
    fn cost(&self) -> Cost {
        cost::grpo_loss(self.columns[0].len(), 1)
    }
    fn poison(&mut self) -> Result<()> {
        let [.., d_logprobs, d_entropy] = &mut self.columns;
        poison(&mut [d_logprobs, d_entropy])
    }
    fn run(&mut self) -> Result<(), KernelError> {
        let [logprobs, old, reference, entropy, advantages, weights, d_logprobs, d_entropy] =
            &mut self.columns;
        let inputs = GrpoLossInputs {
            logprobs,
            old_logprobs: old,
            sampler_logprobs: old,
            ref_logprobs: reference,
            entropy,
            advantages,
            weights,
            sequences: &self.sequences,
        };
        ops::grpo_loss_into(d_logprobs, d_entropy, &mut self.sums, &inputs, &LOSS)
    }
    fn error(&self) -> Result<f64> {
        let [logprobs, old, reference, _, advantages, weights, d_logprobs, _] = &self.columns;
        let read = |column| values(column);
        let (logprobs, old, reference) = (read(logprobs)?, read(old)?, read(reference)?);
        let (advantages, weights, got) = (read(advantages)?, read(weights)?, read(d_logprobs)?);
        let mut total = 0.0;
        let mut pairs = Vec::new();
        for n in 0..got.len() {
            let (ratio, a, d) = ((logprobs[n] - old[n]).exp(), advantages[n], reference[n] - logprobs[n]);
            let clipped = -ratio.clamp(1.0 - LOSS.clip_low, 1.0 + LOSS.clip_high) * a;
            let (value, slope) = if clipped > -ratio * a { (clipped, 0.0) } else { (-ratio * a, -ratio * a) };
            total += weights[n] * (value + LOSS.kl_coef * (d.exp() - d - 1.0));
            pairs.push((got[n], weights[n] * (slope - LOSS.kl_coef * d.exp_m1())));
        }
        let loss = GrpoLossSums::from_tensor(&self.sums)?.loss;
        Ok(relative_error(pairs).max((loss - total).abs() / total.abs().max(1e-3)))
    }
    fn tolerance(&self) -> f64 {
        // f32 exponentials; a ratio within rounding of a clip may count as beyond it.
        1e-4
    }
}

struct SumSquares {
    x: Tensor,
    sum: Tensor<f64>,
}

impl SumSquares {
    fn new(inputs: &Inputs<'_>) -> Result<SumSquares> {
        let x = inputs.wide(1, &[inputs.model.vocab, inputs.model.c], 1.0)?;
        Ok(SumSquares { x, sum: Tensor::zeros(&[1], inputs.device)? })
    }
}

impl Operation for SumSquares {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        vec![("n", self.x.len())]
    }
    fn cost(&self) -> Cost {
        cost::sum_squares(self.x.len(), 4)
    }
    fn poison(&mut self) -> Result<()> {
        Ok(self.sum.fill(0.0)?)
    }
    fn run(&mut self) -> Result<(), KernelError> {
        ops::add_sum_squares(&mut self.sum, &self.x)
    }
    fn error(&self) -> Result<f64> {
        Ok(relative_error([(self.sum.to_vec()?[0], values(&self.x)?.iter().map(|x| x * x).sum())]))
    }
    fn tolerance(&self) -> f64 {
        1e-5
    }
}

/// A step over as many parameters as the output head has.
struct Optimizer {
    weight: Tensor,
    before: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    moments: Option<Moments8>,
}

const STEP: AdamWParams = AdamWParams {
    learning_rate: 1e-3,
    beta1: 0.9,
    beta2: 0.95,
    eps: 1e-8,
    weight_decay: 0.0,
    step: 1,
    grad_scale: 1.0,
};

impl Optimizer {
    fn new(inputs: &Inputs<'_>, eight_bit: bool) -> Result<Optimizer> {
        let shape = [inputs.model.vocab, inputs.model.c];
        let weight = inputs.wide(1, &shape, 1.0)?;
        let moments = if eight_bit { Some(Moments8::zeros(weight.len(), inputs.device)?) } else { None };
        Ok(Optimizer {
            before: weight.try_clone()?,
            weight,
            grad: inputs.wide(2, &shape, 1.0)?,
            m: Tensor::zeros(&shape, inputs.device)?,
            v: Tensor::zeros(&shape, inputs.device)?,
            moments,
        })
    }
}

impl Operation for Optimizer {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        vec![("n", self.weight.len())]
    }
    fn cost(&self) -> Cost {
        if self.moments.is_some() {
            cost::adamw_8bit(self.weight.len())
        } else {
            cost::adamw(self.weight.len())
        }
    }
    fn poison(&mut self) -> Result<()> {
        self.weight.copy_from(&self.before)?;
        self.m.fill(0.0)?;
        self.v.fill(0.0)?;
        if let Some(moments) = &mut self.moments {
            *moments = Moments8::zeros(self.weight.len(), &self.weight.device())?;
        }
        Ok(())
    }
    fn run(&mut self) -> Result<(), KernelError> {
        match &mut self.moments {
            Some(moments) => ops::adamw_8bit(&mut self.weight, moments, &self.grad, &STEP),
            None => ops::adamw(&mut self.weight, &mut self.m, &mut self.v, &self.grad, &STEP),
        }
    }
    /// The first step moves each weight by the learning rate, against its gradient.
    fn error(&self) -> Result<f64> {
        let (weight, before, grad) = (values(&self.weight)?, values(&self.before)?, values(&self.grad)?);
        let rate = f64::from(STEP.learning_rate);
        let moved = weight.iter().zip(&before).map(|(after, before)| after - before);
        let want = grad.iter().map(|g| -rate * g / (g.abs() + f64::from(STEP.eps)));
        Ok(relative_error(moved.zip(want)))
    }
    fn tolerance(&self) -> f64 {
        // A weight near 1 moves by 1e-3 give or take a rounding of 6e-8.
        2e-4
    }
}
