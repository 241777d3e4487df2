//! A packed batch: tokens of many sequences one after the other, without padding.

use reskill_kernels::ops::{PackedSegment, PackedSegments};
use reskill_kernels::{Device, Tensor};

use crate::error::ModelError;

/// Tokens with their positions and what each sees.
///
/// In trunk/branch form an episode is one *trunk* followed by its *branches*: a branch sees the trunk up to its own
/// point and itself, and has the positions it had when it was generated. The numbers are those of separate samples.
#[derive(Debug, Clone, PartialEq)]
pub struct PackedBatch {
    /// (N) u32.
    pub tokens: Tensor<u32>,
    /// (N) u32: rotary position of each token.
    pub positions: Tensor<u32>,
    /// What each run of rows sees.
    pub segments: PackedSegments,
}

impl PackedBatch {
    /// An empty batch.
    ///
    /// # Errors
    /// None on the CPU.
    pub fn new() -> Result<PackedBatch, ModelError> {
        Ok(PackedBatch {
            tokens: Tensor::from_vec(&[0], Vec::new())?,
            positions: Tensor::from_vec(&[0], Vec::new())?,
            segments: PackedSegments::new(),
        })
    }

    /// One causal sequence.
    ///
    /// # Errors
    /// None on the CPU.
    pub fn causal(tokens: &[u32]) -> Result<PackedBatch, ModelError> {
        let mut batch = PackedBatch::new()?;
        batch.push_trunk(tokens)?;
        Ok(batch)
    }

    /// A copy whose tokens and positions are on a device, to be run there. It cannot grow.
    ///
    /// # Errors
    /// [`ModelError::Kernel`] if the device has no room.
    pub fn to_device(&self, device: &Device) -> Result<PackedBatch, ModelError> {
        Ok(PackedBatch {
            tokens: self.tokens.to_device(device)?,
            positions: self.positions.to_device(device)?,
            segments: self.segments.clone(),
        })
    }

    /// Number of tokens N.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are no tokens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Opens a new sequence with its trunk; returns the row of its first token.
    ///
    /// # Errors
    /// [`ModelError::Kernel`] if the batch has been moved to a device.
    pub fn push_trunk(&mut self, tokens: &[u32]) -> Result<usize, ModelError> {
        self.push(tokens, self.len(), 0)
    }

    /// Adds a branch that sees the first `visible` rows of the trunk at row `trunk_start`; returns the row of its
    /// first token.
    ///
    /// # Errors
    /// As [`PackedBatch::push_trunk`].
    pub fn push_branch(
        &mut self,
        tokens: &[u32],
        trunk_start: usize,
        visible: usize,
    ) -> Result<usize, ModelError> {
        self.push(tokens, trunk_start, visible)
    }

    fn push(&mut self, tokens: &[u32], prefix_start: usize, prefix_len: usize) -> Result<usize, ModelError> {
        let start = self.len();
        let n = start + tokens.len();
        self.tokens.set_rows(n)?;
        self.positions.set_rows(n)?;
        self.tokens.host_mut()?[start..].copy_from_slice(tokens);
        for (offset, position) in self.positions.host_mut()?[start..].iter_mut().enumerate() {
            *position = (prefix_len + offset) as u32;
        }
        self.segments.push(PackedSegment { start, len: tokens.len(), prefix_start, prefix_len });
        Ok(start)
    }
}
