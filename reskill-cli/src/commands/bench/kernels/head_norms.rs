//! The norms of query and key heads, alone and with their rotation.

use anyhow::Result;
use reskill_kernels::ops::{self, AttentionShape, Cost, cost};
use reskill_kernels::{KernelError, Tensor};

use super::exact::inner;
use super::operation::{Build, Inputs, Operation, poison, relative_error};
use super::rotation::Turns;
use super::sample::{Sample, row_of};

/// Under the root of a norm.
const EPS: f32 = 1e-6;

/// The operations of this file.
pub(super) const OPERATIONS: [(&str, Build); 4] = [
    ("qk_norm_forward", |inputs| Ok(Box::new(HeadNorm::new(inputs, false)?))),
    ("qk_norm_backward", |inputs| Ok(Box::new(HeadNormBackward::new(inputs, false)?))),
    ("qk_norm_rope_forward", |inputs| Ok(Box::new(HeadNorm::new(inputs, true)?))),
    ("qk_norm_rope_backward", |inputs| Ok(Box::new(HeadNormBackward::new(inputs, true)?))),
];

struct HeadNorm {
    qkv: Tensor,
    original: Tensor,
    raw: Tensor,
    rstd: Tensor,
    /// Of queries and of keys.
    weights: [Tensor; 2],
    turns: Option<Turns>,
    shape: AttentionShape,
    size: usize,
    tolerance: f64,
}

/// A head of a row.
struct Head {
    row: usize,
    /// Where it begins in the row.
    at: usize,
    x: Vec<f64>,
    /// 1 / rms.
    rstd: f64,
    weight: Vec<f64>,
}

impl HeadNorm {
    fn new(inputs: &Inputs<'_>, turned: bool) -> Result<HeadNorm> {
        let (n, model) = (inputs.n, inputs.model);
        let shape = model.attention();
        let heads = shape.n_heads + shape.n_kv_heads;
        let original = inputs.tensor(1, &[n, shape.qkv_width()], 2.0)?;
        let weight = |stream| inputs.tensor(stream, &[shape.head_dim], 1.0);
        Ok(HeadNorm {
            qkv: original.try_clone()?,
            original,
            raw: inputs.tensor(2, &[n, heads * shape.head_dim], 1.0)?,
            rstd: inputs.wide(3, &[n, heads], 1.0)?,
            weights: [weight(4)?, weight(5)?],
            turns: if turned { Some(Turns::new(inputs)?) } else { None },
            shape,
            size: inputs.size(),
            // A rotation by 4096 radians loses some digits of its f32 angle.
            tolerance: inputs.rounding(if turned { 1e-3 } else { 1e-5 }),
        })
    }

    fn heads(&self) -> usize {
        self.shape.n_heads + self.shape.n_kv_heads
    }

    /// All heads of some rows.
    fn some(&self, sample: Sample) -> Result<Vec<Head>> {
        let d = self.shape.head_dim;
        let mut weights = Vec::new();
        for weight in &self.weights {
            weights.push(weight.to_vec()?.into_iter().map(f64::from).collect::<Vec<f64>>());
        }
        let mut some = Vec::new();
        for n in sample.rows(self.original.rows()) {
            let row = row_of(&self.original, n)?;
            for (head, x) in row.chunks_exact(d).take(self.heads()).enumerate() {
                let rstd = 1.0 / (inner(x, x) / d as f64 + f64::from(EPS)).sqrt();
                let weight = weights[usize::from(head >= self.shape.n_heads)].clone();
                some.push(Head { row: n, at: head * d, x: x.to_vec(), rstd, weight });
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
        let norm = if self.turns.is_some() { cost::qk_norm_rope_forward } else { cost::qk_norm_forward };
        norm(self.qkv.rows(), self.heads(), self.shape.head_dim, self.size)
    }
    fn poison(&mut self) -> Result<()> {
        self.qkv.copy_from(&self.original)?;
        poison(&mut [&mut self.raw, &mut self.rstd])
    }
    fn run(&mut self) -> Result<(), KernelError> {
        let [q_weight, k_weight] = &self.weights;
        let (raw, rstd, weights) = (&mut self.raw, &mut self.rstd, (q_weight, k_weight));
        match self.turns.as_ref().map(Turns::rotation) {
            Some(turns) => {
                ops::qk_norm_rope_forward(&mut self.qkv, raw, rstd, weights, turns, self.shape, EPS)
            }
            None => ops::qk_norm_forward(&mut self.qkv, raw, rstd, weights, self.shape, EPS),
        }
    }
    fn error(&self, sample: Sample) -> Result<f64> {
        let mut pairs = Vec::new();
        for Head { row, at, x, rstd, weight } in self.some(sample)? {
            let got = row_of(&self.qkv, row)?;
            let mut want: Vec<f64> = x.iter().zip(&weight).map(|(x, weight)| x * rstd * weight).collect();
            if let Some(turns) = &self.turns {
                turns.turn(row, &mut want, 1.0);
            }
            pairs.extend(got[at..at + x.len()].iter().copied().zip(want));
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        self.tolerance
    }
    fn outputs(&self) -> Vec<&Tensor> {
        vec![&self.qkv, &self.raw, &self.rstd]
    }
}

struct HeadNormBackward {
    forward: HeadNorm,
    d_qkv: Tensor,
    d_out: Tensor,
    d_weights: [Tensor; 2],
}

impl HeadNormBackward {
    fn new(inputs: &Inputs<'_>, turned: bool) -> Result<HeadNormBackward> {
        let mut forward = HeadNorm::new(inputs, turned)?;
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
        let HeadNorm { qkv, shape, size, turns, .. } = &self.forward;
        let norm = if turns.is_some() { cost::qk_norm_rope_backward } else { cost::qk_norm_backward };
        norm(qkv.rows(), self.forward.heads(), shape.head_dim, *size)
    }
    fn poison(&mut self) -> Result<()> {
        self.d_qkv.copy_from(&self.d_out)?;
        for d_weight in &mut self.d_weights {
            d_weight.fill(0.0)?;
        }
        Ok(())
    }
    fn run(&mut self) -> Result<(), KernelError> {
        let HeadNorm { raw, rstd, weights: [q_weight, k_weight], turns, shape, .. } = &self.forward;
        let [d_q_weight, d_k_weight] = &mut self.d_weights;
        let (d_weights, weights) = ((d_q_weight, d_k_weight), (q_weight, k_weight));
        match turns.as_ref().map(Turns::rotation) {
            Some(turns) => {
                ops::qk_norm_rope_backward(&mut self.d_qkv, d_weights, raw, rstd, weights, turns, *shape)
            }
            None => ops::qk_norm_backward(&mut self.d_qkv, d_weights, raw, rstd, weights, *shape),
        }
    }
    fn error(&self, sample: Sample) -> Result<f64> {
        let mut pairs = Vec::new();
        for Head { row, at, x, rstd, weight } in self.forward.some(sample)? {
            let d = x.len();
            let (got, mut d_out) = (row_of(&self.d_qkv, row)?, row_of(&self.d_out, row)?);
            if let Some(turns) = &self.forward.turns {
                turns.turn(row, &mut d_out[at..at + d], -1.0);
            }
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
    fn outputs(&self) -> Vec<&Tensor> {
        vec![&self.d_qkv, &self.d_weights[0], &self.d_weights[1]]
    }
}
