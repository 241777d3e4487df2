//! A pass over tokens that continue slots of a cache: generation.

use reskill_kernels::Tensor;
use reskill_kernels::ops::{self, CachedSpan};

use super::Transformer;
use super::cached_work::{CachedPass, decode_rows, run_step};
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
        let device = self.device();
        let decodes = spans.iter().all(|(_, len)| *len == 1);
        let kept = if decodes { &mut cache.work.decode } else { &mut cache.work.prefill };
        let mut pass = match kept.take() {
            Some(pass) => pass,
            None => Box::new(CachedPass::new(&self.config, &device)?),
        };
        let hidden = self.run_pass(cache, &mut pass, tokens, spans, decodes);
        // On the CPU memory is given back: a pass over long prompts would hold it for as long as the cache lives.
        if !device.is_cpu() {
            *(if decodes { &mut cache.work.decode } else { &mut cache.work.prefill }) = Some(pass);
        }
        hidden
    }

    fn run_pass(
        &self,
        cache: &mut KvCache,
        pass: &mut CachedPass,
        tokens: &[u32],
        spans: &[(usize, usize)],
        decodes: bool,
    ) -> Result<Tensor, ModelError> {
        let device = self.device();
        let rows = if decodes { decode_rows(&device, &cache.work, tokens.len()) } else { tokens.len() };
        // Rows behind the last sequence are computed and not looked at.
        let ends = if decodes { rows } else { spans.len() };
        pass.set_rows(rows, ends)?;
        self.set_inputs(cache, pass, tokens, spans)?;
        if decodes {
            run_step(self, cache, pass, |cache, pass| self.step(cache, pass, true))?;
        } else {
            self.step(cache, pass, false)?;
        }
        let mut hidden =
            Tensor::zeros_as(&[spans.len(), self.config.hidden_size], &device, pass.hidden.dtype())?;
        hidden.copy_rows_from(0, &pass.hidden, 0, spans.len())?;
        Ok(hidden)
    }

    /// Tokens, positions and pages of a pass.
    fn set_inputs(
        &self,
        cache: &KvCache,
        pass: &mut CachedPass,
        tokens: &[u32],
        spans: &[(usize, usize)],
    ) -> Result<(), ModelError> {
        self.check_tokens(tokens)?;
        let (mut row, mut cached) = (0, Vec::with_capacity(spans.len()));
        for &(slot, len) in spans {
            let (position, blocks) = (cache.len(slot) - len, cache.pages(slot));
            cached.push(CachedSpan { row, len, position, blocks });
            row += len;
        }
        let rows = pass.tokens.len();
        let padded = |values: &mut dyn Iterator<Item = u32>, n: usize| -> Vec<u32> {
            values.chain(std::iter::repeat(0)).take(n).collect()
        };
        let positions = cached.iter().flat_map(|span| span.position..span.position + span.len);
        let last_rows = cached.iter().map(|span| (span.row + span.len - 1) as u32);
        let n_ends = pass.last_rows.len();
        pass.tokens.copy_from_slice(&padded(&mut tokens.iter().copied(), rows))?;
        pass.positions.copy_from_slice(&padded(&mut positions.map(|position| position as u32), rows))?;
        pass.last_rows.copy_from_slice(&padded(&mut { last_rows }, n_ends))?;
        pass.plan.set(&cached, rows, cache.held_pages())?;
        Ok(())
    }

    /// The operations of a pass, from `tokens` to `hidden`.
    ///
    /// - `all`: whether every row ends a span
    fn step(&self, cache: &mut KvCache, pass: &mut CachedPass, all: bool) -> Result<(), ModelError> {
        let eps = self.config.rms_norm_eps;
        let CachedPass {
            tokens,
            positions,
            last_rows,
            residual,
            normed,
            qkv,
            head_norms,
            attended,
            gate_up,
            gated,
            rstd,
            ends,
            hidden,
            end_rstd,
            plan,
        } = pass;
        ops::embedding_forward(residual, &self.params.embed, tokens)?;
        for (layer, block) in self.packed_blocks().enumerate() {
            let (keys, values) = cache.layer_mut(layer);
            ops::rms_norm_forward(normed, rstd, residual, &block.weights.input_norm, eps)?;
            block.heads(qkv, head_norms, normed, positions)?;
            ops::cache_append_planned(keys, values, qkv, plan)?;
            ops::attention_cached_planned(attended, qkv, keys, values, plan)?;
            block.out().forward(residual, attended, true)?;
            ops::rms_norm_forward(normed, rstd, residual, &block.weights.post_norm, eps)?;
            block.gate_up().forward(gate_up, normed, false)?;
            ops::swiglu_forward(gated, gate_up)?;
            block.down().forward(residual, gated, true)?;
        }
        let last = if all {
            residual
        } else {
            ops::embedding_forward(ends, residual, last_rows)?;
            ends
        };
        ops::rms_norm_forward(hidden, end_rstd, last, &self.params.final_norm, eps)?;
        Ok(())
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
        let mut logits = Tensor::zeros(&[hidden.rows(), self.config.vocab_size], &self.device())?;
        match &self.packed {
            Some(packed) => ops::packed_matmul(&mut logits, hidden, &packed.head, false)?,
            None => ops::matmul(&mut logits, hidden, self.params.head(), false)?,
        }
        Ok(logits)
    }
}
