//! Keys and values of running sequences, one slot a sequence.

use reskill_kernels::{Device, Tensor};

use crate::config::ModelConfig;
use crate::error::ModelError;

/// A cache of `slots` sequences of at most `capacity` tokens.
#[derive(Debug, Clone)]
pub struct KvCache {
    /// Per layer: keys (slots, K D, T) f32 and values (slots, T, K D) f32.
    layers: Vec<(Tensor, Tensor)>,
    /// Tokens in each slot.
    lens: Vec<usize>,
    capacity: usize,
    /// T: the capacity rounded up to what the kernels like best.
    allocated: usize,
    /// K D.
    width: usize,
}

impl KvCache {
    /// An empty cache.
    ///
    /// # Errors
    /// [`ModelError::Context`] if `capacity` exceeds the model's positions.
    pub fn new(config: &ModelConfig, slots: usize, capacity: usize) -> Result<KvCache, ModelError> {
        if capacity > config.max_position_embeddings {
            return Err(ModelError::Context { len: capacity, capacity: config.max_position_embeddings });
        }
        let width = config.attention_shape().kv_width();
        let allocated = capacity.next_multiple_of(16);
        let layers = (0..config.num_hidden_layers)
            .map(|_| {
                let keys = Tensor::zeros(&[slots, width, allocated], &Device::Cpu)?;
                Ok((keys, Tensor::zeros(&[slots, allocated, width], &Device::Cpu)?))
            })
            .collect::<Result<Vec<_>, ModelError>>()?;
        Ok(KvCache { layers, lens: vec![0; slots], capacity, allocated, width })
    }

    /// Number of slots.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.lens.len()
    }

    /// Tokens that one slot can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Tokens in `slot`.
    #[must_use]
    pub fn len(&self, slot: usize) -> usize {
        self.lens[slot]
    }

    /// Whether no slot holds a token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lens.iter().all(|&len| len == 0)
    }

    /// Forgets the tokens of `slot` from position `len` on.
    pub fn truncate(&mut self, slot: usize, len: usize) {
        self.lens[slot] = self.lens[slot].min(len);
    }

    /// Makes `to` hold the first `len` tokens that `from` holds, or all of them if they are fewer.
    pub fn copy_prefix(&mut self, from: usize, to: usize, len: usize) {
        let len = len.min(self.lens[from]);
        let slot_len = self.allocated * self.width;
        let (from_start, to_start) = (from * slot_len, to * slot_len);
        for (keys, values) in &mut self.layers {
            for column in (0..slot_len).step_by(self.allocated) {
                let source = from_start + column..from_start + column + len;
                keys.as_mut_slice().copy_within(source, to_start + column);
            }
            values.as_mut_slice().copy_within(from_start..from_start + len * self.width, to_start);
        }
        self.lens[to] = len;
    }

    /// Counts `n` tokens more in `slot`.
    ///
    /// # Errors
    /// [`ModelError::Context`] if they do not fit.
    pub(crate) fn grow(&mut self, slot: usize, n: usize) -> Result<(), ModelError> {
        let len = self.lens[slot] + n;
        if len > self.capacity {
            return Err(ModelError::Context { len, capacity: self.capacity });
        }
        self.lens[slot] = len;
        Ok(())
    }

    pub(crate) fn layer_mut(&mut self, layer: usize) -> (&mut Tensor, &mut Tensor) {
        let (keys, values) = &mut self.layers[layer];
        (keys, values)
    }
}
