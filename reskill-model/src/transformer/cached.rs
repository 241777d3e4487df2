//! A pass over tokens that continue slots of a cache: generation.

use reskill_kernels::ops::{self, CachedSpan};
use reskill_kernels::{Device, Tensor};

use super::Transformer;
use crate::activations::HeadNorms;
use crate::config::ModelConfig;
use crate::engine::Decoder;
use crate::error::ModelError;
use crate::kv_cache::KvCache;

impl Transformer {
    /// Runs tokens that continue slots of `cache`, which they are added to.
    ///
    /// - `tokens`: those of all spans, one after the other
    /// - `spans`: slot and number of tokens, none of them 0, no slot twice
    /// - result: (spans, C) f32, the hidden state of the last token of each span
    ///
    /// # Errors
    /// [`ModelError::EmptySpan`], [`ModelError::Context`], [`ModelError::CacheFull`]; [`ModelError::Kernel`] for a token out
    /// of range. The slots are left as they were.
    pub fn forward_cached(
        &self,
        cache: &mut KvCache,
        tokens: &[u32],
        spans: &[(usize, usize)],
    ) -> Result<Tensor, ModelError> {
        if let Some((slot, _)) = spans.iter().find(|(_, len)| *len == 0) {
            return Err(ModelError::EmptySpan { slot: *slot });
        }
        let before: Vec<usize> = spans.iter().map(|(slot, _)| cache.len(*slot)).collect();
        let hidden = spans
            .iter()
            .try_for_each(|&(slot, len)| cache.grow(slot, len))
            .and_then(|()| self.run_cached(cache, tokens, spans));
        if hidden.is_err() {
            for ((slot, _), len) in spans.iter().zip(before) {
                cache.truncate(*slot, len);
            }
        }
        hidden
    }

    /// [`Transformer::forward_cached`] for slots that have grown already.
    fn run_cached(
        &self,
        cache: &mut KvCache,
        tokens: &[u32],
        spans: &[(usize, usize)],
    ) -> Result<Tensor, ModelError> {
        let eps = self.config.rms_norm_eps;
        let shape = self.config.attention_shape();
        let n = tokens.len();
        let tokens = Tensor::from_vec(&[n], tokens.to_vec())?;
        let pages: Vec<Vec<u32>> = spans.iter().map(|(slot, _)| cache.pages(*slot).to_vec()).collect();
        let (mut row, mut cached) = (0, Vec::with_capacity(spans.len()));
        for (&(slot, len), blocks) in spans.iter().zip(&pages) {
            cached.push(CachedSpan { row, len, position: cache.len(slot) - len, blocks });
            row += len;
        }
        let spans = cached;
        let positions = spans
            .iter()
            .flat_map(|span| (span.position..span.position + span.len).map(|position| position as u32))
            .collect();
        let positions = Tensor::from_vec(&[n], positions)?;
        let (c, f) = (self.config.hidden_size, self.config.intermediate_size);
        let rows = |width: usize| Tensor::<f32>::zeros(&[n, width], &Device::Cpu);
        let (mut residual, mut normed, mut qkv) = (rows(c)?, rows(c)?, rows(shape.qkv_width())?);
        let (mut attended, mut gate_up, mut gated) = (rows(shape.out_width())?, rows(2 * f)?, rows(f)?);
        let mut rstd = Tensor::zeros(&[n], &Device::Cpu)?;
        let mut head_norms = HeadNorms::new(&self.config)?;
        head_norms.set_rows(n)?;
        ops::embedding_forward(&mut residual, &self.params.embed, &tokens)?;
        for (layer, block) in self.packed_blocks().enumerate() {
            let (keys, values) = cache.layer_mut(layer);
            ops::rms_norm_forward(&mut normed, &mut rstd, &residual, &block.weights.input_norm, eps)?;
            block.heads(&mut qkv, &mut head_norms, &normed, &positions)?;
            ops::cache_append(keys, values, &qkv, &spans, shape)?;
            ops::attention_cached(&mut attended, &qkv, keys, values, &spans, shape)?;
            block.out().forward(&mut residual, &attended, true)?;
            ops::rms_norm_forward(&mut normed, &mut rstd, &residual, &block.weights.post_norm, eps)?;
            block.gate_up().forward(&mut gate_up, &normed, false)?;
            ops::swiglu_forward(&mut gated, &gate_up)?;
            block.down().forward(&mut residual, &gated, true)?;
        }
        let last_rows = spans.iter().map(|span| span.row + span.len - 1);
        let ends = last_rows.flat_map(|row| residual.as_slice()[row * c..(row + 1) * c].iter().copied());
        let ends = Tensor::from_vec(&[spans.len(), c], ends.collect())?;
        let mut hidden = Tensor::zeros(ends.shape(), &Device::Cpu)?;
        rstd.set_rows(spans.len())?;
        ops::rms_norm_forward(&mut hidden, &mut rstd, &ends, &self.params.final_norm, eps)?;
        Ok(hidden)
    }
}

impl Decoder for Transformer {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn forward_cached(
        &self,
        cache: &mut KvCache,
        tokens: &[u32],
        spans: &[(usize, usize)],
    ) -> Result<Tensor, ModelError> {
        Transformer::forward_cached(self, cache, tokens, spans)
    }

    fn logits(&self, hidden: &Tensor) -> Result<Tensor, ModelError> {
        let mut logits = Tensor::zeros(&[hidden.rows(), self.config.vocab_size], &Device::Cpu)?;
        match &self.packed {
            Some(packed) => ops::packed_matmul(&mut logits, hidden, &packed.head, false)?,
            None => ops::matmul(&mut logits, hidden, self.params.head(), false)?,
        }
        Ok(logits)
    }
}
