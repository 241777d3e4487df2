//! What the loss needs to know of each trained token of one packing, beside what the network says.

use reskill_kernels::{Device, Tensor};

use crate::error::GrpoError;
use crate::loss::{BatchTotals, KlEstimator, LossConfig, SequenceUnit};
use crate::packing::Packing;
use crate::trajectory::TokenTrajectory;

/// Columns over the trained tokens, each (R).
pub(super) struct TokenColumns {
    /// Log-probabilities that the ratio is taken against.
    pub(super) old_logprobs: Tensor,
    /// Log-probabilities that the sampler reported.
    pub(super) sampler_logprobs: Tensor,
    pub(super) advantages: Tensor,
    pub(super) weights: Tensor,
    /// The sequence of each token.
    pub(super) sequences: Tensor<u32>,
    /// Gradient by the full divergence, where it is the penalty.
    pub(super) d_kl: Option<Tensor>,
}

impl TokenColumns {
    /// On the CPU.
    ///
    /// - `advantages`: per trajectory of `pack`, per turn
    /// - `old`: (R)
    pub(super) fn new(
        packing: &Packing,
        pack: &[&TokenTrajectory],
        advantages: &[&[f32]],
        old: &[f32],
        loss: &LossConfig,
        totals: BatchTotals,
    ) -> Result<TokenColumns, GrpoError> {
        let r = packing.origins.len();
        let advantage = |&(index, turn): &(usize, usize)| advantages[index][turn];
        let weight = |&(index, turn): &(usize, usize)| {
            let tokens = match loss.sequence {
                SequenceUnit::Turn => pack[index].turns[turn].trained_len(),
                SequenceUnit::Episode => pack[index].trained_len(),
            };
            loss.token_weight(tokens, totals)
        };
        let weights: Vec<f32> = packing.origins.iter().map(weight).collect();
        let d_kl: Vec<f32> = weights.iter().map(|weight| weight * loss.kl_coef).collect();
        let column = |values| Tensor::from_vec(&[r], values);
        Ok(TokenColumns {
            old_logprobs: column(old.to_vec())?,
            sampler_logprobs: packing.old_logprobs.clone(),
            advantages: column(packing.origins.iter().map(advantage).collect())?,
            weights: column(weights)?,
            sequences: Tensor::from_vec(&[r], sequences(&packing.origins, loss.sequence))?,
            d_kl: (loss.kl == KlEstimator::Full && loss.kl_coef > 0.0).then(|| column(d_kl)).transpose()?,
        })
    }

    /// The same on a device.
    pub(super) fn to_device(&self, device: &Device) -> Result<TokenColumns, GrpoError> {
        Ok(TokenColumns {
            old_logprobs: self.old_logprobs.to_device(device)?,
            sampler_logprobs: self.sampler_logprobs.to_device(device)?,
            advantages: self.advantages.to_device(device)?,
            weights: self.weights.to_device(device)?,
            sequences: self.sequences.to_device(device)?,
            d_kl: self.d_kl.as_ref().map(|d_kl| d_kl.to_device(device)).transpose()?,
        })
    }
}

/// A number for each token's sequence: its turn, or its trajectory.
fn sequences(origins: &[(usize, usize)], unit: SequenceUnit) -> Vec<u32> {
    let mut sequences = Vec::with_capacity(origins.len());
    for (row, &(index, turn)) in origins.iter().enumerate() {
        let is_new = row == 0 || {
            let before = origins[row - 1];
            before.0 != index || (unit == SequenceUnit::Turn && before.1 != turn)
        };
        let last = sequences.last().copied().unwrap_or(0);
        sequences.push(last + u32::from(is_new));
    }
    sequences
}
