//! Laying trajectories out as one packed batch: each episode is a trunk and its branches.

use reskill_kernels::ops::TokenSets;
use reskill_kernels::{Device, Tensor};
use reskill_model::PackedBatch;

use crate::error::GrpoError;
use crate::trajectory::TokenTrajectory;

/// A packed batch and its trained tokens, R of them, in the order of the trajectories.
#[derive(Debug)]
pub struct Packing {
    /// The tokens.
    pub batch: PackedBatch,
    /// (R) u32: the row whose hidden state predicts the token.
    pub rows: Tensor<u32>,
    /// (R) u32: the token.
    pub targets: Tensor<u32>,
    /// The tokens it was drawn from.
    pub allowed: TokenSets,
    /// (R) f32: its log-probability under the policy that sampled it.
    pub old_logprobs: Tensor,
    /// (R): trajectory (counted in this packing) and turn it belongs to.
    pub origins: Vec<(usize, usize)>,
}

impl Packing {
    /// Packs trajectories. The last token of a reply is predicted but never read, so it takes no row; forced tokens are
    /// read but not trained.
    ///
    /// # Errors
    /// [`GrpoError::EmptyBranch`].
    pub fn new(trajectories: &[&TokenTrajectory]) -> Result<Packing, GrpoError> {
        let mut batch = PackedBatch::new()?;
        let mut allowed = TokenSets::new();
        let (mut rows, mut targets, mut old_logprobs, mut origins) = (vec![], vec![], vec![], vec![]);
        for (index, trajectory) in trajectories.iter().enumerate() {
            let trunk: Vec<u32> =
                trajectory.turns.iter().flat_map(|turn| turn.trunk.iter().copied()).collect();
            let trunk_start = batch.push_trunk(&trunk)?;
            let mut visible = 0;
            for (turn_idx, turn) in trajectory.turns.iter().enumerate() {
                if turn.branch.is_empty() {
                    return Err(GrpoError::EmptyBranch { trajectory: index, turn: turn_idx });
                }
                visible += turn.trunk.len();
                let read = turn.reply.len().saturating_sub(1);
                let tokens: Vec<u32> =
                    turn.branch.iter().copied().chain(turn.reply[..read].iter().map(|t| t.token)).collect();
                let start = batch.push_branch(&tokens, trunk_start, visible)?;
                for (offset, token) in turn.reply.iter().enumerate().filter(|(_, token)| !token.is_forced()) {
                    rows.push((start + turn.branch.len() + offset - 1) as u32);
                    targets.push(token.token);
                    allowed.push(&token.allowed);
                    old_logprobs.push(token.logprob);
                    origins.push((index, turn_idx));
                }
            }
        }
        let r = rows.len();
        Ok(Packing {
            batch,
            rows: Tensor::from_vec(&[r], rows)?,
            targets: Tensor::from_vec(&[r], targets)?,
            allowed,
            old_logprobs: Tensor::from_vec(&[r], old_logprobs)?,
            origins,
        })
    }

    /// The packing with what the network reads on a device. Log-probabilities of the sampler stay on the CPU.
    ///
    /// # Errors
    /// [`GrpoError::Kernel`] if the device has no room.
    pub fn to_device(self, device: &Device) -> Result<Packing, GrpoError> {
        if device.is_cpu() {
            return Ok(self);
        }
        Ok(Packing {
            batch: self.batch.to_device(device)?,
            rows: self.rows.to_device(device)?,
            targets: self.targets.to_device(device)?,
            ..self
        })
    }

    /// Splits trajectories, in order, into packs of at most `max_tokens` packed tokens (a longer one stands alone).
    #[must_use]
    pub fn split<'a>(
        trajectories: &[&'a TokenTrajectory],
        max_tokens: usize,
    ) -> Vec<Vec<&'a TokenTrajectory>> {
        let mut packs: Vec<Vec<&TokenTrajectory>> = Vec::new();
        let mut tokens = 0;
        for &trajectory in trajectories {
            let len = trajectory.packed_len();
            if packs.is_empty() || tokens + len > max_tokens {
                packs.push(Vec::new());
                tokens = 0;
            }
            tokens += len;
            if let Some(pack) = packs.last_mut() {
                pack.push(trajectory);
            }
        }
        packs
    }
}
