//! The output head: log-probabilities from hidden states, over the whole vocabulary or over sets of allowed tokens.

use std::collections::BTreeSet;

use anyhow::Result;
use reskill_kernels::ops::{self, Cost, TokenSets, cost};
use reskill_kernels::{KernelError, Tensor};

use super::exact::{entropy, inner, log_softmax, logits};
use super::operation::{Build, Inputs, Operation, distinct, poison, relative_error};
use super::sample::{Sample, row_of, value_of};

/// Tokens that a row allows where it allows few.
const SET: usize = 32;

/// The operations of this file.
pub(super) const OPERATIONS: [(&str, Build); 2] = [
    ("linear_logprob_forward", |inputs| Ok(Box::new(Logprob::new(inputs)?))),
    ("linear_logprob_forward_sets", |inputs| Ok(Box::new(Logprob::over_sets(inputs)?))),
];

pub(super) struct Logprob {
    /// Log-probabilities, entropies, normalisers.
    pub(super) columns: [Tensor; 3],
    pub(super) hidden: Tensor,
    pub(super) head: Tensor,
    pub(super) targets: Vec<u32>,
    pub(super) target_column: Tensor<u32>,
    pub(super) allowed: TokenSets,
    pub(super) size: usize,
}

/// A distribution in f64.
pub(super) struct Exact {
    /// The row it is of.
    pub(super) row: usize,
    /// The tokens it is over, in order.
    pub(super) tokens: Vec<u32>,
    pub(super) logprobs: Vec<f64>,
}

impl Exact {
    /// Of a token; none if it is not among the tokens.
    pub(super) fn logprob(&self, token: u32) -> Option<f64> {
        let at = self.tokens.binary_search(&token).ok()?;
        self.logprobs.get(at).copied()
    }
}

impl Logprob {
    /// Over the whole vocabulary, with logits of a standard deviation of about 3.
    pub(super) fn new(inputs: &Inputs<'_>) -> Result<Logprob> {
        let mut allowed = TokenSets::new();
        (0..inputs.n).for_each(|_| allowed.push(&[]));
        Logprob::with(inputs, inputs.stream(6).ids(inputs.n, inputs.model.vocab), allowed)
    }

    /// Over a set of at most [`SET`] tokens a row, the target among them.
    pub(super) fn over_sets(inputs: &Inputs<'_>) -> Result<Logprob> {
        let tokens = inputs.stream(6).ids(inputs.n * SET, inputs.model.vocab);
        let mut allowed = TokenSets::new();
        for set in tokens.chunks_exact(SET) {
            let set: BTreeSet<u32> = set.iter().copied().collect();
            allowed.push(&set.into_iter().collect::<Vec<u32>>());
        }
        let targets = tokens.chunks_exact(SET).map(|set| set[0]).collect();
        Logprob::with(inputs, targets, allowed)
    }

    fn with(inputs: &Inputs<'_>, targets: Vec<u32>, allowed: TokenSets) -> Result<Logprob> {
        let (n, c, v) = (inputs.n, inputs.model.c, inputs.model.vocab);
        let scale = 3.0 * (9.0 / c as f32).sqrt();
        let column = |stream| inputs.wide(stream, &[n], 1.0);
        Ok(Logprob {
            columns: [column(1)?, column(2)?, column(3)?],
            hidden: inputs.tensor(4, &[n, c], 1.0)?,
            head: inputs.tensor(5, &[v, c], scale)?,
            target_column: inputs.column(&targets)?,
            targets,
            allowed,
            size: inputs.size(),
        })
    }

    /// N, C, V.
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        (self.hidden.rows(), self.hidden.row_len(), self.head.rows())
    }

    /// Entries of all sets, and how many different tokens there are; none if rows allow the whole vocabulary.
    pub(super) fn entries(&self) -> Option<(usize, usize)> {
        let all: Vec<u32> = (0..self.allowed.rows()).flat_map(|n| self.allowed.row(n)).copied().collect();
        (!all.is_empty()).then(|| (all.len(), distinct(&all)))
    }

    /// Distributions of some rows.
    pub(super) fn exact(&self, sample: Sample) -> Result<Vec<Exact>> {
        let rows = sample.few(self.hidden.rows());
        let hidden = rows.iter().map(|&n| row_of(&self.hidden, n)).collect::<Result<Vec<_>>>()?;
        if self.entries().is_none() {
            let tokens: Vec<u32> = (0..self.head.rows() as u32).collect();
            let all = logits(&hidden, &self.head)?.into_iter().zip(rows);
            let exact = |(logits, row): (Vec<f64>, usize)| Exact {
                row,
                tokens: tokens.clone(),
                logprobs: log_softmax(&logits),
            };
            return Ok(all.map(exact).collect());
        }
        let mut all = Vec::new();
        for (row, hidden) in rows.into_iter().zip(hidden) {
            let tokens = self.allowed.row(row).to_vec();
            let logit = |&token: &u32| Ok(inner(&hidden, &row_of(&self.head, token as usize)?));
            let logits = tokens.iter().map(logit).collect::<Result<Vec<f64>>>()?;
            all.push(Exact { row, tokens, logprobs: log_softmax(&logits) });
        }
        Ok(all)
    }
}

impl Operation for Logprob {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        let (n, c, v) = self.sizes();
        let mut shape = vec![("N", n), ("C", c), ("V", v)];
        shape.extend(self.entries().map(|(entries, _)| ("E", entries)));
        shape
    }
    fn cost(&self) -> Cost {
        let (n, c, v) = self.sizes();
        match self.entries() {
            None => cost::linear_logprob_forward(n, c, v, self.size),
            Some((e, distinct)) => cost::linear_logprob_sets_forward(n, c, e, distinct, self.size),
        }
    }
    fn poison(&mut self) -> Result<()> {
        poison(&mut self.columns.each_mut())
    }
    fn run(&mut self) -> Result<(), KernelError> {
        let [logprobs, entropy, lse] = &mut self.columns;
        let (hidden, head, targets) = (&self.hidden, &self.head, &self.target_column);
        ops::linear_logprob_forward(logprobs, entropy, lse, hidden, head, targets, &self.allowed, 1.0)
    }
    fn error(&self, sample: Sample) -> Result<f64> {
        let [logprobs, entropies, _] = &self.columns;
        let mut pairs = Vec::new();
        for exact in self.exact(sample)? {
            let want = exact.logprob(self.targets[exact.row]).unwrap_or(f64::NAN);
            pairs.push((value_of(logprobs, exact.row)?, want));
            pairs.push((value_of(entropies, exact.row)?, entropy(&exact.logprobs)));
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        // Sums of at most 1024 products in f32, and exponentials of the device.
        3e-5
    }
    fn outputs(&self) -> Vec<&Tensor> {
        self.columns.iter().collect()
    }
}
