//! The norms of query and key heads.

use anyhow::Result;
use reskill_kernels::ops::{self, AttentionShape, Cost, cost};
use reskill_kernels::{KernelError, Tensor};

use super::exact::inner;
use super::operation::{Build, Inputs, Operation, poison, relative_error, some_rows, values};

/// Under the root of a norm.
const EPS: f32 = 1e-6;

/// The operations of this file.
pub(super) const OPERATIONS: [(&str, Build); 2] = [
    ("qk_norm_forward", |inputs| Ok(Box::new(HeadNorm::new(inputs)?))),
    ("qk_norm_backward", |inputs| Ok(Box::new(HeadNormBackward::new(inputs)?))),
];

struct HeadNorm {
    qkv: Tensor,
    original: Tensor,
    raw: Tensor,
    rstd: Tensor,
    /// Of queries and of keys.
    weights: [Tensor; 2],
    shape: AttentionShape,
    size: usize,
    tolerance: f64,
}

/// A head of a row.
struct Head {
    /// Where it begins in `qkv`.
    at: usize,
    x: Vec<f64>,
    /// 1 / rms.
    rstd: f64,
    weight: Vec<f64>,
}

impl HeadNorm {
    fn new(inputs: &Inputs<'_>) -> Result<HeadNorm> {
        let (n, model) = (inputs.n, inputs.model);
        let shape =
            AttentionShape { n_heads: model.heads, n_kv_heads: model.kv_heads, head_dim: model.head_dim };
        let heads = shape.n_heads + shape.n_kv_heads;
        let original = inputs.tensor(1, &[n, shape.qkv_width()], 2.0)?;
        let weight = |stream| inputs.tensor(stream, &[shape.head_dim], 1.0);
        Ok(HeadNorm {
            qkv: original.try_clone()?,
            original,
            raw: inputs.tensor(2, &[n, heads * shape.head_dim], 1.0)?,
            rstd: inputs.wide(3, &[n, heads], 1.0)?,
            weights: [weight(4)?, weight(5)?],
            shape,
            size: inputs.size(),
            tolerance: inputs.rounding(1e-5),
        })
    }

    fn heads(&self) -> usize {
        self.shape.n_heads + self.shape.n_kv_heads
    }

    /// Some heads of some rows.
    fn some(&self) -> Result<Vec<Head>> {
        let (x, width, d) = (values(&self.original)?, self.original.row_len(), self.shape.head_dim);
        let weights = [values(&self.weights[0])?, values(&self.weights[1])?];
        let mut some = Vec::new();
        for n in some_rows(self.original.rows()) {
            for head in [0, self.shape.n_heads - 1, self.shape.n_heads, self.heads() - 1] {
                let at = n * width + head * d;
                let x = x[at..at + d].to_vec();
                let rstd = 1.0 / (inner(&x, &x) / d as f64 + f64::from(EPS)).sqrt();
                let weight = weights[usize::from(head >= self.shape.n_heads)].clone();
                some.push(Head { at, x, rstd, weight });
            }
        }
        Ok(some)
    }
}

impl Operation for HeadNorm {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        vec![("N", self.qkv.rows()), ("H+K", self.heads()), ("D", self.shape.head_dim)]
    }
    fn cost(&self) -> Cost {
        cost::qk_norm_forward(self.qkv.rows(), self.heads(), self.shape.head_dim, self.size)
    }
    fn poison(&mut self) -> Result<()> {
        self.qkv.copy_from(&self.original)?;
        poison(&mut [&mut self.raw, &mut self.rstd])
    }
    fn run(&mut self) -> Result<(), KernelError> {
        let [q_weight, k_weight] = &self.weights;
        let (raw, rstd) = (&mut self.raw, &mut self.rstd);
        ops::qk_norm_forward(&mut self.qkv, raw, rstd, (q_weight, k_weight), self.shape, EPS)
    }
    fn error(&self) -> Result<f64> {
        let got = values(&self.qkv)?;
        let mut pairs = Vec::new();
        for Head { at, x, rstd, weight } in self.some()? {
            let want = x.iter().zip(&weight).map(|(x, weight)| x * rstd * weight);
            pairs.extend(got[at..at + x.len()].iter().copied().zip(want));
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        self.tolerance
    }
}

struct HeadNormBackward {
    forward: HeadNorm,
    d_qkv: Tensor,
    d_out: Tensor,
    d_weights: [Tensor; 2],
}

impl HeadNormBackward {
    fn new(inputs: &Inputs<'_>) -> Result<HeadNormBackward> {
        let mut forward = HeadNorm::new(inputs)?;
        forward.run()?;
        let d_out = inputs.tensor(6, forward.qkv.shape(), 1.0)?;
        let d_weight = |stream| inputs.wide(stream, &[forward.shape.head_dim], 1.0);
        let d_weights = [d_weight(7)?, d_weight(8)?];
        Ok(HeadNormBackward { d_qkv: d_out.try_clone()?, d_out, d_weights, forward })
    }
}

impl Operation for HeadNormBackward {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        self.forward.shape()
    }
    fn cost(&self) -> Cost {
        let HeadNorm { qkv, shape, size, .. } = &self.forward;
        cost::qk_norm_backward(qkv.rows(), self.forward.heads(), shape.head_dim, *size)
    }
    fn poison(&mut self) -> Result<()> {
        self.d_qkv.copy_from(&self.d_out)?;
        for d_weight in &mut self.d_weights {
            d_weight.fill(0.0)?;
        }
        Ok(())
    }
    fn run(&mut self) -> Result<(), KernelError> {
        let HeadNorm { raw, rstd, weights: [q_weight, k_weight], shape, .. } = &self.forward;
        let [d_q_weight, d_k_weight] = &mut self.d_weights;
        let (d_weights, weights) = ((d_q_weight, d_k_weight), (q_weight, k_weight));
        ops::qk_norm_backward(&mut self.d_qkv, d_weights, raw, rstd, weights, *shape)
    }
    fn error(&self) -> Result<f64> {
        let (got, d_out) = (values(&self.d_qkv)?, values(&self.d_out)?);
        let mut pairs = Vec::new();
        for Head { at, x, rstd, weight } in self.forward.some()? {
            let d = x.len();
            let g: Vec<f64> = d_out[at..at + d].iter().zip(&weight).map(|(d, weight)| d * weight).collect();
            let pull = rstd * rstd * inner(&g, &x) / d as f64;
            let want = g.iter().zip(&x).map(|(g, x)| rstd * (g - x * pull));
            pairs.extend(got[at..at + d].iter().copied().zip(want));
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        2.0 * self.forward.tolerance
    }
}
