//! The loss, and the norm of the gradient with the factor that clips by it.

use anyhow::Result;
use reskill_kernels::ops::{
    self, Cost, GrpoLossInputs, GrpoLossParams, GrpoLossSums, KlEstimator, RatioLevel, Surrogate, cost,
};
use reskill_kernels::{KernelError, Tensor};

use super::operation::{Build, Inputs, Operation, poison, relative_error, worse};
use super::sample::{Sample, for_pieces, value_of};
use super::sizes::Model;

/// Tensors whose gradients have one norm, and the norm that is allowed.
const TENSORS: usize = 8;
const LIMIT: f32 = 1.0;

/// The operations of this file.
pub(super) const OPERATIONS: [(&str, Build); 3] = [
    ("grpo_loss", |inputs| Ok(Box::new(Loss::new(inputs)?))),
    ("sum_squares", |inputs| Ok(Box::new(SumSquares::new(inputs)?))),
    ("clip_scale_global_norm", |inputs| Ok(Box::new(GlobalNorm::new(inputs)?))),
];

/// Rows of the table of embeddings that have at most 2^24 elements: more of them say nothing new about a loop over elements.
pub(super) fn capped_rows(model: Model) -> usize {
    model.vocab.min(((1 << 24) / model.c).max(1))
}

/// `n` elements, and how many there would be without the cap.
pub(super) fn capped_shape(n: usize, model: Model) -> Vec<(&'static str, usize)> {
    let all = model.vocab * model.c;
    let mut shape = vec![("n", n)];
    if n < all {
        shape.push(("of", all));
    }
    shape
}

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
    /// Of all tokens: there are few numbers.
    fn error(&self, _sample: Sample) -> Result<f64> {
        let read = |column: &Tensor| -> Result<Vec<f64>> {
            Ok(column.to_vec()?.into_iter().map(f64::from).collect())
        };
        let [logprobs, old, reference, _, advantages, weights, d_logprobs, _] = &self.columns;
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
        Ok(worse(relative_error(pairs), (loss - total).abs() / total.abs().max(1e-3)))
    }
    fn tolerance(&self) -> f64 {
        // f32 exponentials; a ratio within rounding of a clip may count as beyond it.
        1e-4
    }
    fn outputs(&self) -> Vec<&Tensor> {
        let [.., d_logprobs, d_entropy] = &self.columns;
        vec![d_logprobs, d_entropy]
    }
}

/// `sum x^2` over all elements of a tensor.
fn squares(x: &Tensor) -> Result<f64> {
    let mut total = 0.0;
    for_pieces(x, |_, values| total += values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>())?;
    Ok(total)
}

struct SumSquares {
    model: Model,
    x: Tensor,
    sum: Tensor<f64>,
}

impl SumSquares {
    fn new(inputs: &Inputs<'_>) -> Result<SumSquares> {
        let x = inputs.wide(1, &[capped_rows(inputs.model), inputs.model.c], 1.0)?;
        Ok(SumSquares { model: inputs.model, x, sum: Tensor::zeros(&[1], inputs.device)? })
    }
}

impl Operation for SumSquares {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        capped_shape(self.x.len(), self.model)
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
    fn error(&self, _sample: Sample) -> Result<f64> {
        Ok(relative_error([(self.sum.to_vec()?[0], squares(&self.x)?)]))
    }
    fn tolerance(&self) -> f64 {
        1e-5
    }
    /// The sum is in f64 and is compared.
    fn outputs(&self) -> Vec<&Tensor> {
        Vec::new()
    }
}

/// The norm over several tensors and the factor that clips by it, as before a step of the optimizer.
struct GlobalNorm {
    model: Model,
    grads: Vec<Tensor>,
    total: Tensor<f64>,
    scale: Tensor,
}

impl GlobalNorm {
    fn new(inputs: &Inputs<'_>) -> Result<GlobalNorm> {
        let rows = capped_rows(inputs.model).div_ceil(TENSORS);
        let grad = |stream| inputs.wide(stream, &[rows, inputs.model.c], 1.0);
        Ok(GlobalNorm {
            model: inputs.model,
            grads: (0..TENSORS as u64).map(grad).collect::<Result<_>>()?,
            total: Tensor::zeros(&[1], inputs.device)?,
            scale: Tensor::zeros(&[1], inputs.device)?,
        })
    }

    fn n(&self) -> usize {
        self.grads.iter().map(Tensor::len).sum()
    }
}

impl Operation for GlobalNorm {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        let mut shape = capped_shape(self.n(), self.model);
        shape.push(("tensors", self.grads.len()));
        shape
    }
    fn cost(&self) -> Cost {
        cost::sum_squares(self.n(), 4)
    }
    fn poison(&mut self) -> Result<()> {
        poison(&mut [&mut self.scale])
    }
    fn run(&mut self) -> Result<(), KernelError> {
        self.total.fill(0.0)?;
        self.grads.iter().try_for_each(|grad| ops::add_sum_squares(&mut self.total, grad))?;
        ops::clip_scale(&mut self.scale, &self.total, LIMIT)
    }
    fn error(&self, _sample: Sample) -> Result<f64> {
        let squares = self.grads.iter().map(squares).sum::<Result<f64>>()?;
        let want = (f64::from(LIMIT) / squares.sqrt()).min(1.0);
        Ok(worse(
            relative_error([(self.total.to_vec()?[0], squares)]),
            relative_error([(value_of(&self.scale, 0)?, want)]),
        ))
    }
    fn tolerance(&self) -> f64 {
        1e-5
    }
    fn outputs(&self) -> Vec<&Tensor> {
        vec![&self.scale]
    }
}
