//! The ratio of a whole sequence (GSPO, Zheng et al. 2025, arXiv:2507.18071, eq. 7): the geometric mean of its tokens'
//! ratios, `exp(mean(logprob - old))` over the tokens that count, used for each of them and differentiated as such.

use std::collections::BTreeMap;

use super::real::Real;

/// Log-ratios of sequences, and the gradients that their tokens have gathered.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    by_id: BTreeMap<u32, Sequence>,
}

#[derive(Debug, Default)]
struct Sequence {
    total: f64,
    n_tokens: u32,
    slope: f64,
}

impl Sequences {
    /// Sums over the tokens whose weight is not zero; the tokens of a sequence may stand anywhere.
    pub(super) fn new<F: Real>(ids: &[u32], logprobs: &[F], old: &[F], weights: &[F]) -> Sequences {
        let mut by_id: BTreeMap<u32, Sequence> = BTreeMap::new();
        for (n, &id) in ids.iter().enumerate() {
            if weights[n] != F::default() {
                let sequence = by_id.entry(id).or_default();
                sequence.total += logprobs[n].to_f64() - old[n].to_f64();
                sequence.n_tokens += 1;
            }
        }
        Sequences { by_id }
    }

    /// The mean log-ratio of a sequence.
    pub(super) fn log_ratio<F: Real>(&self, id: u32) -> F {
        let mean = self.by_id.get(&id).map_or(0.0, |it| it.total / f64::from(it.n_tokens));
        F::from_f64(mean)
    }

    /// Adds the weighted derivative of one of its tokens by the sequence's log-ratio.
    pub(super) fn add<F: Real>(&mut self, id: u32, slope: F) {
        if let Some(sequence) = self.by_id.get_mut(&id) {
            sequence.slope += slope.to_f64();
        }
    }

    /// What each token of the sequence gets of that.
    pub(super) fn share<F: Real>(&self, id: u32) -> F {
        F::from_f64(self.by_id.get(&id).map_or(0.0, |it| it.slope / f64::from(it.n_tokens)))
    }
}
