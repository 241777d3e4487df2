//! An output head with rows, sets and targets, on any device, and its definition in f64.

use reskill_kernels::ops::{
    TokenSets, linear_logprob_backward, linear_logprob_backward_filtered, linear_logprob_forward,
};
use reskill_kernels::{DType, Device, Tensor};

use crate::support::{column, ids, poisoned, tensor, values, wide};

/// Numbers that do not depend on a device.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) c: usize,
    pub(crate) hidden: Vec<f32>,
    pub(crate) head: Vec<f32>,
    pub(crate) targets: Vec<u32>,
    pub(crate) sets: Vec<Vec<u32>>,
    pub(crate) temperature: f32,
}

/// What the forward pass gives: log-probabilities, entropies, log-sum-exps.
pub(crate) type Columns = [Tensor; 3];

impl Case {
    /// Rows that allow everything; of `mixed` ones two of three allow a few tokens, one of them a single one.
    pub(crate) fn random(n: usize, c: usize, vocab: usize, mixed: bool, scale: f32) -> Case {
        let v = vocab as u32;
        let sets: Vec<Vec<u32>> = (0..n as u32)
            .map(|row| {
                let count = if mixed && row % 3 > 0 { 1 + row % 4 } else { 0 };
                (0..count).map(|i| (row * 5 + i * 3) % v).collect()
            })
            .collect();
        let target = |(row, set): (usize, &Vec<u32>)| set.last().copied().unwrap_or(row as u32 * 11 % v);
        let targets = sets.iter().enumerate().map(target).collect();
        let (hidden, head) = (values(1, n * c, 1.0), values(2, vocab * c, scale));
        Case { c, hidden, head, targets, sets, temperature: 0.7 }
    }

    pub(crate) fn n(&self) -> usize {
        self.targets.len()
    }

    pub(crate) fn vocab(&self) -> usize {
        self.head.len() / self.c
    }

    pub(crate) fn part(&self, first: usize, n: usize) -> Case {
        Case {
            hidden: self.hidden[first * self.c..(first + n) * self.c].to_vec(),
            targets: self.targets[first..first + n].to_vec(),
            sets: self.sets[first..first + n].to_vec(),
            ..self.clone()
        }
    }

    pub(crate) fn allowed(&self) -> TokenSets {
        let mut allowed = TokenSets::new();
        self.sets.iter().for_each(|set| allowed.push(set));
        allowed
    }

    pub(crate) fn hidden_on(&self, device: &Device, dtype: DType) -> Tensor {
        tensor(device, dtype, &[self.n(), self.c], &self.hidden)
    }

    pub(crate) fn head_on(&self, device: &Device, dtype: DType) -> Tensor {
        tensor(device, dtype, &[self.vocab(), self.c], &self.head)
    }

    pub(crate) fn forward(&self, device: &Device, dtype: DType) -> Columns {
        self.forward_with(device, dtype, &self.allowed())
    }

    /// The same with sets that may have been used before.
    pub(crate) fn forward_with(&self, device: &Device, dtype: DType, allowed: &TokenSets) -> Columns {
        let [mut logprobs, mut entropy, mut lse] =
            [(); 3].map(|()| poisoned(device, DType::F32, &[self.n()]));
        linear_logprob_forward(
            &mut logprobs,
            &mut entropy,
            &mut lse,
            &self.hidden_on(device, dtype),
            &self.head_on(device, dtype),
            &ids(device, &self.targets),
            allowed,
            self.temperature,
        )
        .unwrap();
        [logprobs, entropy, lse]
    }

    /// Gradients by the hidden states and, added to ones, by the head.
    pub(crate) fn backward(
        &self,
        device: &Device,
        dtype: DType,
        d_logprobs: &[f32],
        d_entropy: &[f32],
        filter: Option<f32>,
    ) -> [Tensor; 2] {
        self.backward_with(device, dtype, d_logprobs, d_entropy, filter, &self.allowed())
    }

    /// The same with sets that may have been used before.
    pub(crate) fn backward_with(
        &self,
        device: &Device,
        dtype: DType,
        d_logprobs: &[f32],
        d_entropy: &[f32],
        filter: Option<f32>,
        allowed: &TokenSets,
    ) -> [Tensor; 2] {
        let [_, entropy, lse] = self.forward_with(device, dtype, allowed);
        let (hidden, head) = (self.hidden_on(device, dtype), self.head_on(device, dtype));
        let mut d_hidden = poisoned(device, dtype, hidden.shape());
        let mut d_head = tensor(device, DType::F32, head.shape(), &vec![1.0; head.len()]);
        let (d_logprobs, d_entropy) = (column(device, d_logprobs), column(device, d_entropy));
        let targets = ids(device, &self.targets);
        let (t, d_head_of) = (self.temperature, &mut d_head);
        match filter {
            None => linear_logprob_backward(
                &mut d_hidden,
                d_head_of,
                &d_logprobs,
                &d_entropy,
                &entropy,
                &lse,
                &hidden,
                &head,
                &targets,
                allowed,
                t,
            ),
            Some(filter) => linear_logprob_backward_filtered(
                &mut d_hidden,
                d_head_of,
                &d_logprobs,
                &d_entropy,
                &entropy,
                &lse,
                &hidden,
                &head,
                &targets,
                allowed,
                t,
                filter,
            ),
        }
        .unwrap();
        [d_hidden, d_head]
    }

    /// The tokens that row `n` allows.
    pub(crate) fn tokens(&self, n: usize) -> Vec<u32> {
        if self.sets[n].is_empty() { (0..self.vocab() as u32).collect() } else { self.sets[n].clone() }
    }

    /// Log-probabilities of the tokens that each row allows, by the numbers as `dtype` rounds them.
    pub(crate) fn exact(&self, device: &Device, dtype: DType) -> Vec<Vec<f64>> {
        let (hidden, head) = (wide(&self.hidden_on(device, dtype)), wide(&self.head_on(device, dtype)));
        let c = self.c;
        let row = |n: usize| {
            let logit = |&token: &u32| {
                let (h, w) = (&hidden[n * c..][..c], &head[token as usize * c..][..c]);
                h.iter().zip(w).map(|(h, w)| h * w).sum::<f64>() / f64::from(self.temperature)
            };
            let logits: Vec<f64> = self.tokens(n).iter().map(logit).collect();
            let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let lse = top + logits.iter().map(|z| (z - top).exp()).sum::<f64>().ln();
            logits.into_iter().map(|z| z - lse).collect()
        };
        (0..self.n()).map(row).collect()
    }

    /// Where row `n`'s target stands among its tokens.
    pub(crate) fn target_index(&self, n: usize) -> usize {
        self.tokens(n).iter().position(|&token| token == self.targets[n]).unwrap()
    }
}

pub(crate) fn entropy_of(logprobs: &[f64]) -> f64 {
    -logprobs.iter().map(|l| l.exp() * l).sum::<f64>()
}

/// Products of gradients by logits with hidden states and head, and the sums of their magnitudes, to which rounding errors
/// are proportional.
pub(crate) struct Products {
    pub(crate) d_hidden: Vec<f64>,
    pub(crate) d_head: Vec<f64>,
    pub(crate) d_hidden_size: Vec<f64>,
    pub(crate) d_head_size: Vec<f64>,
}

impl Products {
    /// `d_z(n, i, logprobs of row n)` is the gradient by the i-th logit of row n over the temperature.
    pub(crate) fn of(
        case: &Case,
        device: &Device,
        dtype: DType,
        d_z: impl Fn(usize, usize, &[f64]) -> f64,
    ) -> Products {
        let (hidden, head) = (wide(&case.hidden_on(device, dtype)), wide(&case.head_on(device, dtype)));
        let zeros = |n: usize| vec![0.0; n];
        let mut all = Products {
            d_hidden: zeros(hidden.len()),
            d_head: zeros(head.len()),
            d_hidden_size: zeros(hidden.len()),
            d_head_size: zeros(head.len()),
        };
        for (n, logprobs) in case.exact(device, dtype).iter().enumerate() {
            for (i, &token) in case.tokens(n).iter().enumerate() {
                let d = d_z(n, i, logprobs) / f64::from(case.temperature);
                for x in 0..case.c {
                    let (at, from) = (n * case.c + x, token as usize * case.c + x);
                    all.d_hidden[at] += d * head[from];
                    all.d_hidden_size[at] += (d * head[from]).abs();
                    all.d_head[from] += d * hidden[at];
                    all.d_head_size[from] += (d * hidden[at]).abs();
                }
            }
        }
        all
    }

    /// The gradients of log-probabilities and entropies.
    pub(crate) fn of_logprobs(
        case: &Case,
        device: &Device,
        dtype: DType,
        d_logprobs: &[f32],
        d_entropy: &[f32],
    ) -> Products {
        Products::of(case, device, dtype, |n, i, logprobs| {
            let p = logprobs[i].exp();
            let of_logprob = if i == case.target_index(n) { 1.0 - p } else { -p };
            f64::from(d_logprobs[n]) * of_logprob
                - f64::from(d_entropy[n]) * p * (logprobs[i] + entropy_of(logprobs))
        })
    }
}
