//! Causal grouped-query attention over packed sequences, forward and backward.

use anyhow::Result;
use reskill_kernels::ops::{self, AttentionShape, Cost, PackedSegment, PackedSegments, packed_cost};
use reskill_kernels::{KernelError, Tensor};

use super::exact::{inner, log_softmax};
use super::operation::{Build, Inputs, Operation, poison, relative_error, some_rows, values};

/// Longest sequence.
const LONGEST: usize = 4096;

/// The operations of this file.
pub(super) const OPERATIONS: [(&str, Build); 2] = [
    ("attention_forward", |inputs| Ok(Box::new(Attention::new(inputs)?))),
    ("attention_backward", |inputs| Ok(Box::new(AttentionBackward::new(inputs)?))),
];

struct Attention {
    out: Tensor,
    lse: Tensor,
    qkv: Tensor,
    segments: PackedSegments,
    shape: AttentionShape,
    size: usize,
    tolerance: f64,
}

impl Attention {
    fn new(inputs: &Inputs<'_>) -> Result<Attention> {
        let (n, model) = (inputs.n, inputs.model);
        let shape =
            AttentionShape { n_heads: model.heads, n_kv_heads: model.kv_heads, head_dim: model.head_dim };
        let segment = |start: usize| PackedSegment {
            start,
            len: LONGEST.min(n - start),
            prefix_start: start,
            prefix_len: 0,
        };
        Ok(Attention {
            out: inputs.tensor(1, &[n, shape.out_width()], 1.0)?,
            lse: inputs.wide(2, &[n, shape.n_heads], 1.0)?,
            qkv: inputs.tensor(3, &[n, shape.qkv_width()], 2.0)?,
            segments: (0..n).step_by(LONGEST).map(segment).collect::<Vec<_>>().into(),
            shape,
            size: inputs.size(),
            tolerance: inputs.rounding(2e-5),
        })
    }

    /// Of row `n` and a head: the rows seen and their probabilities.
    fn weights(&self, qkv: &[f64], n: usize, head: usize) -> (usize, Vec<f64>) {
        let start = self.segments.iter().map(|it| it.start).filter(|&start| start <= n).max().unwrap_or(0);
        let (shape, width) = (self.shape, self.qkv.row_len());
        let d = shape.head_dim;
        let key = shape.n_heads * d + head / (shape.n_heads / shape.n_kv_heads) * d;
        let query = &qkv[n * width + head * d..][..d];
        let scale = 1.0 / (d as f64).sqrt();
        let scores: Vec<f64> =
            (start..=n).map(|j| scale * inner(query, &qkv[j * width + key..][..d])).collect();
        (start, log_softmax(&scores).into_iter().map(f64::exp).collect())
    }

    fn value_at(&self, head: usize) -> usize {
        let shape = self.shape;
        (shape.n_heads + shape.n_kv_heads + head / (shape.n_heads / shape.n_kv_heads)) * shape.head_dim
    }
}

impl Operation for Attention {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        let AttentionShape { n_heads, n_kv_heads, head_dim } = self.shape;
        vec![("N", self.qkv.rows()), ("H", n_heads), ("K", n_kv_heads), ("D", head_dim)]
    }
    fn cost(&self) -> Cost {
        let cost = packed_cost(&self.segments, self.shape, self.size);
        Cost { bytes: cost.forward_bytes as u64, flops: cost.forward_flops as u64 }
    }
    fn poison(&mut self) -> Result<()> {
        poison(&mut [&mut self.out, &mut self.lse])
    }
    fn run(&mut self) -> Result<(), KernelError> {
        ops::attention_forward(&mut self.out, &mut self.lse, &self.qkv, &self.segments, self.shape)
    }
    fn error(&self) -> Result<f64> {
        let (out, qkv) = (values(&self.out)?, values(&self.qkv)?);
        let (width, out_width, d) = (self.qkv.row_len(), self.out.row_len(), self.shape.head_dim);
        let mut pairs = Vec::new();
        for (n, head) in
            some_rows(self.qkv.rows()).into_iter().flat_map(|n| [(n, 0), (n, self.shape.n_heads - 1)])
        {
            let (start, weights) = self.weights(&qkv, n, head);
            for x in 0..d {
                let values = (start..=n).map(|j| qkv[j * width + self.value_at(head) + x]);
                let want: f64 = weights.iter().zip(values).map(|(p, v)| p * v).sum();
                pairs.push((out[n * out_width + head * d + x], want));
            }
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        self.tolerance
    }
}

struct AttentionBackward {
    forward: Attention,
    d_qkv: Tensor,
    d_out: Tensor,
}

impl AttentionBackward {
    fn new(inputs: &Inputs<'_>) -> Result<AttentionBackward> {
        let mut forward = Attention::new(inputs)?;
        forward.run()?;
        let d_qkv = inputs.tensor(4, forward.qkv.shape(), 1.0)?;
        let d_out = inputs.tensor(5, forward.out.shape(), 1.0)?;
        Ok(AttentionBackward { forward, d_qkv, d_out })
    }
}

impl Operation for AttentionBackward {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        self.forward.shape()
    }
    fn cost(&self) -> Cost {
        let Attention { segments, shape, size, .. } = &self.forward;
        let cost = packed_cost(segments, *shape, *size);
        Cost { bytes: cost.backward_bytes as u64, flops: cost.backward_flops as u64 }
    }
    fn poison(&mut self) -> Result<()> {
        poison(&mut [&mut self.d_qkv])
    }
    fn run(&mut self) -> Result<(), KernelError> {
        let Attention { out, lse, qkv, segments, shape, .. } = &self.forward;
        ops::attention_backward(&mut self.d_qkv, &self.d_out, out, lse, qkv, segments, *shape)
    }
    /// Gradients of queries: `d_q_i = scale sum_j p_ij (d_out_i . v_j - d_out_i . out_i) k_j`.
    fn error(&self) -> Result<f64> {
        let forward = &self.forward;
        let (qkv, d_out, got) = (values(&forward.qkv)?, values(&self.d_out)?, values(&self.d_qkv)?);
        let (width, out_width, shape) = (forward.qkv.row_len(), forward.out.row_len(), forward.shape);
        let (d, scale) = (shape.head_dim, 1.0 / (shape.head_dim as f64).sqrt());
        let mut pairs = Vec::new();
        for (n, head) in
            some_rows(forward.qkv.rows()).into_iter().flat_map(|n| [(n, 0), (n, shape.n_heads - 1)])
        {
            let (start, weights) = forward.weights(&qkv, n, head);
            let d_row = &d_out[n * out_width + head * d..][..d];
            let key = shape.n_heads * d + head / (shape.n_heads / shape.n_kv_heads) * d;
            let slopes: Vec<f64> =
                (start..=n).map(|j| inner(d_row, &qkv[j * width + forward.value_at(head)..][..d])).collect();
            let mean = inner(&weights, &slopes);
            for x in 0..d {
                let sum = (start..=n).zip(weights.iter().zip(&slopes));
                let want: f64 =
                    sum.map(|(j, (p, s))| scale * p * (s - mean) * qkv[j * width + key + x]).sum();
                pairs.push((got[n * width + head * d + x], want));
            }
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        2.0 * self.forward.tolerance
    }
}
