//! Causal grouped-query attention over packed sequences, and over trunks with their branches.

use anyhow::Result;
use reskill_kernels::ops::{self, AttentionShape, Cost, PackedSegment, PackedSegments, packed_cost};
use reskill_kernels::{KernelError, Tensor};

use super::exact::{add_scaled, inner, log_sum_exp};
use super::operation::{Build, Inputs, Operation, poison, relative_error, worse};
use super::sample::{Sample, row_of};

/// Longest sequence.
const LONGEST: usize = 4096;
/// Branches of a trunk, as many as an episode has turns; together they are as long as the trunk.
const BRANCHES: usize = 8;

/// The operations of this file.
pub(super) const OPERATIONS: [(&str, Build); 2] = [
    ("attention_forward", |inputs| Ok(Box::new(Attention::new(inputs, sequences(inputs.n))?))),
    ("attention_forward_branches", |inputs| Ok(Box::new(Attention::new(inputs, branches(inputs.n))?))),
];

/// Sequences of at most [`LONGEST`] rows.
pub(super) fn sequences(n: usize) -> Vec<PackedSegment> {
    let segment = |start: usize| PackedSegment {
        start,
        len: LONGEST.min(n - start),
        prefix_start: start,
        prefix_len: 0,
    };
    (0..n).step_by(LONGEST).map(segment).collect()
}

/// The same rows as trunks and branches: half of a sequence is the trunk, and each branch saw more of it than the one before.
pub(super) fn branches(n: usize) -> Vec<PackedSegment> {
    let mut segments = Vec::new();
    for PackedSegment { start, len, .. } in sequences(n) {
        let trunk = len.div_ceil(2);
        segments.push(PackedSegment { start, len: trunk, prefix_start: start, prefix_len: 0 });
        let each = (len - trunk).div_ceil(BRANCHES).max(1);
        for (index, first) in (trunk..len).step_by(each).enumerate() {
            segments.push(PackedSegment {
                start: start + first,
                len: each.min(len - first),
                prefix_start: start,
                prefix_len: trunk * (index + 1) / BRANCHES,
            });
        }
    }
    segments
}

pub(super) struct Attention {
    pub(super) out: Tensor,
    pub(super) lse: Tensor,
    pub(super) qkv: Tensor,
    pub(super) segments: PackedSegments,
    pub(super) shape: AttentionShape,
    pub(super) size: usize,
    pub(super) tolerance: f64,
}

impl Attention {
    pub(super) fn new(inputs: &Inputs<'_>, segments: Vec<PackedSegment>) -> Result<Attention> {
        let (n, shape) = (inputs.n, inputs.model.attention());
        Ok(Attention {
            out: inputs.tensor(1, &[n, shape.out_width()], 1.0)?,
            lse: inputs.wide(2, &[n, shape.n_heads], 1.0)?,
            qkv: inputs.tensor(3, &[n, shape.qkv_width()], 2.0)?,
            segments: segments.into(),
            shape,
            size: inputs.size(),
            tolerance: inputs.rounding(2e-5),
        })
    }

    /// The rows that row `n` sees.
    pub(super) fn seen(&self, n: usize) -> Vec<usize> {
        let within = |segment: &&PackedSegment| (segment.start..segment.start + segment.len).contains(&n);
        let Some(segment) = self.segments.iter().find(within) else { return Vec::new() };
        let prefix = segment.prefix_start..segment.prefix_start + segment.prefix_len;
        prefix.chain(segment.start..=n).collect()
    }

    /// The rows that see row `j`.
    pub(super) fn seers(&self, j: usize) -> Vec<usize> {
        let mut seers = Vec::new();
        for &PackedSegment { start, len, prefix_start, prefix_len } in self.segments.iter() {
            if (prefix_start..prefix_start + prefix_len).contains(&j) {
                seers.extend(start..start + len);
            } else if (start..start + len).contains(&j) {
                seers.extend(j..start + len);
            }
        }
        seers
    }

    /// A query head, and the key and the value head it reads, within a row of `qkv`.
    pub(super) fn heads(&self, head: usize) -> [std::ops::Range<usize>; 3] {
        let AttentionShape { n_heads, n_kv_heads, head_dim: d } = self.shape;
        let kv = head / (n_heads / n_kv_heads);
        [head, n_heads + kv, n_heads + n_kv_heads + kv].map(|index| index * d..(index + 1) * d)
    }

    pub(super) fn scale(&self) -> f64 {
        1.0 / (self.shape.head_dim as f64).sqrt()
    }

    /// Of row `n` and a head: the rows seen, their probabilities, and the logarithm of the sum of exponentials.
    pub(super) fn weights(&self, qkv: &[f32], n: usize, head: usize) -> (Vec<usize>, Vec<f64>, f64) {
        let (width, [query, key, _]) = (self.qkv.row_len(), self.heads(head));
        let query: Vec<f64> = qkv[n * width..][query].iter().copied().map(f64::from).collect();
        let seen = self.seen(n);
        let score = |&j: &usize| self.scale() * inner(&query, &qkv[j * width..][key.clone()]);
        let scores: Vec<f64> = seen.iter().map(score).collect();
        let lse = log_sum_exp(&scores);
        (seen, scores.into_iter().map(|score| (score - lse).exp()).collect(), lse)
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
    fn error(&self, sample: Sample) -> Result<f64> {
        let qkv = self.qkv.to_vec()?;
        let (width, d) = (self.qkv.row_len(), self.shape.head_dim);
        let (mut pairs, mut statistics) = (Vec::new(), Vec::new());
        for n in sample.rows(self.qkv.rows()) {
            let (out, lses) = (row_of(&self.out, n)?, row_of(&self.lse, n)?);
            for head in [0, self.shape.n_heads - 1] {
                let (seen, weights, lse) = self.weights(&qkv, n, head);
                let [at, _, value] = self.heads(head);
                let mut want = vec![0.0; d];
                for (&j, weight) in seen.iter().zip(weights) {
                    add_scaled(&mut want, weight, &qkv[j * width..][value.clone()]);
                }
                pairs.extend(out[at].iter().copied().zip(want));
                statistics.push((lses[head], lse));
            }
        }
        Ok(worse(relative_error(pairs), relative_error(statistics)))
    }
    fn tolerance(&self) -> f64 {
        self.tolerance
    }
    fn outputs(&self) -> Vec<&Tensor> {
        vec![&self.out, &self.lse]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_cover_all_rows_and_see_more_and_more_of_their_trunk() {
        for n in [1, 2, 9, 37, 5000] {
            let segments = branches(n);
            let mut next = 0;
            for segment in &segments {
                assert!(segment.start == next && segment.len > 0, "{n}: {segment:?}");
                assert!(segment.prefix_start + segment.prefix_len <= segment.start, "{n}: {segment:?}");
                next += segment.len;
            }
            assert_eq!(next, n);
        }
        let prefixes: Vec<usize> = branches(64)[1..].iter().map(|segment| segment.prefix_len).collect();
        assert_eq!(prefixes, [4, 8, 12, 16, 20, 24, 28, 32]);
    }
}
