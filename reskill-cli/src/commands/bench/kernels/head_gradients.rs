//! Gradients of log-probabilities, by hidden states and by the head.

use anyhow::Result;
use reskill_kernels::ops::{self, Cost, cost};
use reskill_kernels::{KernelError, Tensor};

use super::exact::{add_scaled, entropy, inner, weighted_rows};
use super::head::{Exact, Logprob};
use super::operation::{Build, Inputs, Operation, poison, relative_error, worse};
use super::sample::{Sample, for_pieces, row_of, value_of};

/// The operations of this file.
pub(super) const OPERATIONS: [(&str, Build); 2] = [
    ("linear_logprob_backward", |inputs| Ok(Box::new(LogprobBackward::new(inputs, Logprob::new(inputs)?)?))),
    ("linear_logprob_backward_sets", |inputs| {
        Ok(Box::new(LogprobBackward::new(inputs, Logprob::over_sets(inputs)?)?))
    }),
];

struct LogprobBackward {
    forward: Logprob,
    d_hidden: Tensor,
    d_head: Tensor,
    d_logprobs: Tensor,
    d_entropy: Tensor,
    tolerance: f64,
}

impl LogprobBackward {
    fn new(inputs: &Inputs<'_>, mut forward: Logprob) -> Result<LogprobBackward> {
        forward.run()?;
        let (n, c, v) = forward.sizes();
        Ok(LogprobBackward {
            forward,
            d_hidden: inputs.tensor(7, &[n, c], 1.0)?,
            d_head: inputs.wide(8, &[v, c], 1.0)?,
            d_logprobs: inputs.wide(9, &[n], 1.0)?,
            d_entropy: inputs.wide(10, &[n], 0.1)?,
            tolerance: inputs.rounding(1e-4),
        })
    }

    /// `d_z[v] = d_logprob ([v = target] - p[v]) - d_entropy p[v] (log p[v] + entropy)`, over the tokens of the row.
    fn d_logits(&self, exact: &Exact) -> Result<Vec<f64>> {
        let (d_logprob, d_entropy) =
            (value_of(&self.d_logprobs, exact.row)?, value_of(&self.d_entropy, exact.row)?);
        let (h, target) = (entropy(&exact.logprobs), self.forward.targets[exact.row]);
        let of_token = |(&token, logprob): (&u32, &f64)| {
            let (p, hit) = (logprob.exp(), f64::from(u8::from(token == target)));
            d_logprob * (hit - p) - d_entropy * p * (logprob + h)
        };
        Ok(exact.tokens.iter().zip(&exact.logprobs).map(of_token).collect())
    }

    /// `d_hidden[n] = sum_v d_z[n, v] head[v]`.
    fn hidden_error(&self, sample: Sample) -> Result<f64> {
        let head = &self.forward.head;
        let exact = self.forward.exact(sample)?;
        let d_logits = exact.iter().map(|exact| self.d_logits(exact)).collect::<Result<Vec<_>>>()?;
        let wanted = if self.forward.entries().is_none() {
            weighted_rows(&d_logits, head)?
        } else {
            let mut wanted = Vec::new();
            for (exact, d_logits) in exact.iter().zip(&d_logits) {
                let mut want = vec![0.0; head.row_len()];
                for (&token, d) in exact.tokens.iter().zip(d_logits) {
                    add_scaled(&mut want, *d, &row_of(head, token as usize)?);
                }
                wanted.push(want);
            }
            wanted
        };
        let mut pairs = Vec::new();
        for (exact, want) in exact.iter().zip(wanted) {
            pairs.extend(row_of(&self.d_hidden, exact.row)?.into_iter().zip(want));
        }
        Ok(relative_error(pairs))
    }

    /// `d_head[v] = sum_n d_z[n, v] hidden[n]` of some tokens, those of two targets among them, each against its own largest
    /// value. Normalisers and entropies are those of the forward pass, which is judged by itself.
    fn head_error(&self, sample: Sample) -> Result<f64> {
        let Logprob { columns: [_, entropies, lse], hidden, head, targets, allowed, .. } = &self.forward;
        let (n, c, v) = self.forward.sizes();
        let mut tokens: Vec<usize> = sample.few(v);
        tokens.extend([targets[0] as usize, targets[n - 1] as usize]);
        let heads = tokens.iter().map(|&token| row_of(head, token)).collect::<Result<Vec<_>>>()?;
        let mut wanted = vec![vec![0.0; c]; tokens.len()];
        let [entropies, lse, d_logprobs, d_entropy] =
            [entropies.to_vec()?, lse.to_vec()?, self.d_logprobs.to_vec()?, self.d_entropy.to_vec()?];
        for_pieces(hidden, |first, rows| {
            for (n, x) in rows.chunks_exact(c).enumerate().map(|(n, x)| (first + n, x)) {
                let set = allowed.row(n);
                for ((&token, head), want) in tokens.iter().zip(&heads).zip(&mut wanted) {
                    if !set.is_empty() && set.binary_search(&(token as u32)).is_err() {
                        continue;
                    }
                    let logprob = inner(head, x) - f64::from(lse[n]);
                    let (p, hit) = (logprob.exp(), f64::from(u8::from(token == targets[n] as usize)));
                    let d = f64::from(d_logprobs[n]) * (hit - p)
                        - f64::from(d_entropy[n]) * p * (logprob + f64::from(entropies[n]));
                    add_scaled(want, d, x);
                }
            }
        })?;
        let mut worst = 0.0;
        for (&token, want) in tokens.iter().zip(wanted) {
            worst = worse(worst, relative_error(row_of(&self.d_head, token)?.into_iter().zip(want)));
        }
        Ok(worst)
    }
}

impl Operation for LogprobBackward {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        self.forward.shape()
    }
    fn cost(&self) -> Cost {
        let (n, c, v) = self.forward.sizes();
        match self.forward.entries() {
            None => cost::linear_logprob_backward(n, c, v, self.forward.size),
            Some((e, distinct)) => cost::linear_logprob_sets_backward(n, c, e, distinct, self.forward.size),
        }
    }
    fn poison(&mut self) -> Result<()> {
        self.d_head.fill(0.0)?;
        poison(&mut [&mut self.d_hidden])
    }
    fn run(&mut self) -> Result<(), KernelError> {
        let Logprob { columns: [_, entropy, lse], hidden, head, target_column, allowed, .. } = &self.forward;
        ops::linear_logprob_backward(
            &mut self.d_hidden,
            &mut self.d_head,
            &self.d_logprobs,
            &self.d_entropy,
            entropy,
            lse,
            hidden,
            head,
            target_column,
            allowed,
            1.0,
        )
    }
    fn error(&self, sample: Sample) -> Result<f64> {
        Ok(worse(self.hidden_error(sample)?, self.head_error(sample)?))
    }
    fn tolerance(&self) -> f64 {
        self.tolerance
    }
    fn outputs(&self) -> Vec<&Tensor> {
        vec![&self.d_hidden, &self.d_head]
    }
}
