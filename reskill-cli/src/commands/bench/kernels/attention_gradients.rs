//! The backward pass of attention.

use anyhow::Result;
use reskill_kernels::ops::{self, Cost, PackedSegment, packed_cost};
use reskill_kernels::{KernelError, Tensor};

use super::attention::{Attention, branches, sequences};
use super::exact::{add_scaled, inner};
use super::operation::{Build, Inputs, Operation, poison, relative_error, worse};
use super::sample::{Sample, row_of};

/// The operations of this file.
pub(super) const OPERATIONS: [(&str, Build); 2] = [
    ("attention_backward", |inputs| Ok(Box::new(AttentionBackward::new(inputs, sequences(inputs.n))?))),
    ("attention_backward_branches", |inputs| {
        Ok(Box::new(AttentionBackward::new(inputs, branches(inputs.n))?))
    }),
];

struct AttentionBackward {
    forward: Attention,
    d_qkv: Tensor,
    d_out: Tensor,
}

impl AttentionBackward {
    fn new(inputs: &Inputs<'_>, segments: Vec<PackedSegment>) -> Result<AttentionBackward> {
        let mut forward = Attention::new(inputs, segments)?;
        forward.run()?;
        let d_qkv = inputs.tensor(4, forward.qkv.shape(), 1.0)?;
        let d_out = inputs.tensor(5, forward.out.shape(), 1.0)?;
        Ok(AttentionBackward { forward, d_qkv, d_out })
    }

    /// Gradients of queries: `d_q_i = scale sum_j p_ij (d_out_i . v_j - mean_i) k_j`, `mean_i = sum_j p_ij d_out_i . v_j`.
    fn query_error(&self, qkv: &[f32], sample: Sample) -> Result<f64> {
        let (forward, width) = (&self.forward, self.forward.qkv.row_len());
        let mut pairs = Vec::new();
        for n in sample.rows(forward.qkv.rows()) {
            let (d_out, got) = (row_of(&self.d_out, n)?, row_of(&self.d_qkv, n)?);
            for head in [0, forward.shape.n_heads - 1] {
                let (seen, weights, _) = forward.weights(qkv, n, head);
                let [query, key, value] = forward.heads(head);
                let slope = |&j: &usize| inner(&d_out[query.clone()], &qkv[j * width..][value.clone()]);
                let slopes: Vec<f64> = seen.iter().map(slope).collect();
                let mean = inner(&weights, &slopes);
                let mut want = vec![0.0; forward.shape.head_dim];
                for ((&j, weight), slope) in seen.iter().zip(&weights).zip(&slopes) {
                    let factor = forward.scale() * weight * (slope - mean);
                    add_scaled(&mut want, factor, &qkv[j * width..][key.clone()]);
                }
                pairs.extend(got[query].iter().copied().zip(want));
            }
        }
        Ok(relative_error(pairs))
    }

    /// Gradients of keys and values of the first head, over all rows i that see them:
    /// `d_k_j = scale sum_i p_ij (d_out_i . v_j - d_out_i . out_i) q_i`, `d_v_j = sum_i p_ij d_out_i`.
    fn key_error(&self, qkv: &[f32], sample: Sample) -> Result<f64> {
        let (forward, width, d) = (&self.forward, self.forward.qkv.row_len(), self.forward.shape.head_dim);
        let group = forward.shape.n_heads / forward.shape.n_kv_heads;
        let (out, d_out, lse) = (forward.out.to_vec()?, self.d_out.to_vec()?, forward.lse.to_vec()?);
        let (out_width, n_heads) = (forward.out.row_len(), forward.shape.n_heads);
        let wide = |x: &[f32]| -> Vec<f64> { x.iter().copied().map(f64::from).collect() };
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for j in sample.few(forward.qkv.rows()) {
            let got = row_of(&self.d_qkv, j)?;
            let (mut want_key, mut want_value) = (vec![0.0; d], vec![0.0; d]);
            for head in 0..group {
                let [query, key, value] = forward.heads(head);
                let (k, v) = (wide(&qkv[j * width..][key]), wide(&qkv[j * width..][value]));
                for i in forward.seers(j) {
                    let q = &qkv[i * width..][query.clone()];
                    let d_out = &d_out[i * out_width..][query.clone()];
                    let score = forward.scale() * inner(&k, q);
                    let weight = (score - f64::from(lse[i * n_heads + head])).exp();
                    let mean = inner(&wide(&out[i * out_width..][query.clone()]), d_out);
                    add_scaled(&mut want_value, weight, d_out);
                    add_scaled(&mut want_key, forward.scale() * weight * (inner(&v, d_out) - mean), q);
                }
            }
            let [_, key, value] = forward.heads(0);
            keys.extend(got[key].iter().copied().zip(want_key));
            values.extend(got[value].iter().copied().zip(want_value));
        }
        Ok(worse(relative_error(keys), relative_error(values)))
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
    fn error(&self, sample: Sample) -> Result<f64> {
        let qkv = self.forward.qkv.to_vec()?;
        Ok(worse(self.query_error(&qkv, sample)?, self.key_error(&qkv, sample)?))
    }
    fn tolerance(&self) -> f64 {
        2.0 * self.forward.tolerance
    }
    fn outputs(&self) -> Vec<&Tensor> {
        vec![&self.d_qkv]
    }
}
