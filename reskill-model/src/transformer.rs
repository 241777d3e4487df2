//! The network, forward and backward, op by op.

use rand::{Rng, RngExt};
use reskill_kernels::ops::{self, CachedSpan, RopeTable};
use reskill_kernels::{Device, Tensor};

use crate::activations::Workspace;
use crate::batch::PackedBatch;
use crate::config::ModelConfig;
use crate::engine::Decoder;
use crate::error::ModelError;
use crate::kv_cache::KvCache;
use crate::params::Params;

/// A decoder: configuration, weights, rotary table.
#[derive(Debug, Clone)]
pub struct Transformer {
    config: ModelConfig,
    params: Params,
    rope: RopeTable,
}

impl Transformer {
    /// A model over given weights.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn new(config: &ModelConfig, params: Params) -> Result<Transformer, ModelError> {
        config.validate()?;
        let rope = RopeTable::new(config.max_position_embeddings, config.head_dim, config.rope_theta)?;
        Ok(Transformer { config: config.clone(), params, rope })
    }

    /// A model with random weights.
    ///
    /// A projection of I inputs is drawn from N(0, 1/I), so that it keeps the size of its input; the two of a block that
    /// write to the residual stream have their standard deviation divided by sqrt(2 L), as in GPT-2. Embeddings and an
    /// untied head are drawn from N(0, 1/C): GPT-2's standard deviation of 0.02 would tell tokens apart only slowly at
    /// the widths this crate is used with. Norms start at 1.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn init(config: &ModelConfig, rng: &mut impl Rng) -> Result<Transformer, ModelError> {
        let mut params = Params::zeros(config)?;
        let into_residual = 1.0 / (2.0 * config.num_hidden_layers as f64).sqrt();
        normal(&mut params.embed, 1.0, rng);
        for layer in &mut params.layers {
            layer.input_norm.fill(1.0);
            layer.post_norm.fill(1.0);
            normal(&mut layer.qkv, 1.0, rng);
            normal(&mut layer.out, into_residual, rng);
            normal(&mut layer.gate_up, 1.0, rng);
            normal(&mut layer.down, into_residual, rng);
        }
        params.final_norm.fill(1.0);
        if let Some(head) = &mut params.head {
            normal(head, 1.0, rng);
        }
        Transformer::new(config, params)
    }

    /// The sizes.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The weights.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The weights, to update.
    pub fn params_mut(&mut self) -> &mut Params {
        &mut self.params
    }

    /// Runs a packed batch and keeps what [`Transformer::backward`] needs.
    ///
    /// - result: (N, C) f32, the hidden states after the last norm: what the output head multiplies
    ///
    /// # Errors
    /// [`ModelError::Kernel`] for a token or position out of range.
    pub fn forward<'w>(
        &self,
        workspace: &'w mut Workspace,
        batch: &PackedBatch,
    ) -> Result<&'w Tensor, ModelError> {
        workspace.set_rows(batch.len());
        let eps = self.config.rms_norm_eps;
        let shape = self.config.attention_shape();
        ops::embedding_forward(&mut workspace.last, &self.params.embed, &batch.tokens)?;
        for (weights, acts) in self.params.layers.iter().zip(&mut workspace.layers) {
            acts.residual.copy_from(&workspace.last)?;
            ops::rms_norm_forward(
                &mut acts.normed,
                &mut acts.rstd,
                &acts.residual,
                &weights.input_norm,
                eps,
            )?;
            ops::matmul(&mut acts.qkv, &acts.normed, &weights.qkv, false)?;
            ops::rope_forward(&mut acts.qkv, &batch.positions, &self.rope, shape.n_heads + shape.n_kv_heads)?;
            ops::attention_forward(&mut acts.attended, &mut acts.lse, &acts.qkv, &batch.segments, shape)?;
            acts.middle.copy_from(&acts.residual)?;
            ops::matmul(&mut acts.middle, &acts.attended, &weights.out, true)?;
            ops::rms_norm_forward(
                &mut acts.post_normed,
                &mut acts.post_rstd,
                &acts.middle,
                &weights.post_norm,
                eps,
            )?;
            ops::matmul(&mut acts.gate_up, &acts.post_normed, &weights.gate_up, false)?;
            ops::swiglu_forward(&mut acts.gated, &acts.gate_up)?;
            workspace.last.copy_from(&acts.middle)?;
            ops::matmul(&mut workspace.last, &acts.gated, &weights.down, true)?;
        }
        ops::rms_norm_forward(
            &mut workspace.hidden,
            &mut workspace.final_rstd,
            &workspace.last,
            &self.params.final_norm,
            eps,
        )?;
        Ok(&workspace.hidden)
    }

    /// Adds the gradients of the weights to `grads`, for the batch of the last [`Transformer::forward`] on this
    /// workspace.
    ///
    /// - `d_hidden`: (N, C) f32, gradient by the result of the forward pass
    ///
    /// # Errors
    /// [`ModelError::Kernel`] if `d_hidden` has another shape.
    pub fn backward(
        &self,
        grads: &mut Params,
        workspace: &mut Workspace,
        batch: &PackedBatch,
        d_hidden: &Tensor,
    ) -> Result<(), ModelError> {
        let shape = self.config.attention_shape();
        let Workspace {
            layers,
            last,
            final_rstd,
            d_residual,
            d_normed,
            d_qkv,
            d_attended,
            d_gate_up,
            d_gated,
            ..
        } = workspace;
        d_residual.fill(0.0);
        ops::rms_norm_backward(
            d_residual,
            &mut grads.final_norm,
            d_hidden,
            last,
            &self.params.final_norm,
            final_rstd,
        )?;
        for ((weights, acts), grads) in
            self.params.layers.iter().zip(layers.iter()).zip(&mut grads.layers).rev()
        {
            ops::matmul_backward_input(d_gated, d_residual, &weights.down, false)?;
            ops::matmul_backward_weight(&mut grads.down, d_residual, &acts.gated)?;
            ops::swiglu_backward(d_gate_up, d_gated, &acts.gate_up)?;
            ops::matmul_backward_input(d_normed, d_gate_up, &weights.gate_up, false)?;
            ops::matmul_backward_weight(&mut grads.gate_up, d_gate_up, &acts.post_normed)?;
            ops::rms_norm_backward(
                d_residual,
                &mut grads.post_norm,
                d_normed,
                &acts.middle,
                &weights.post_norm,
                &acts.post_rstd,
            )?;
            ops::matmul_backward_input(d_attended, d_residual, &weights.out, false)?;
            ops::matmul_backward_weight(&mut grads.out, d_residual, &acts.attended)?;
            ops::attention_backward(
                d_qkv,
                d_attended,
                &acts.attended,
                &acts.lse,
                &acts.qkv,
                &batch.segments,
                shape,
            )?;
            ops::rope_backward(d_qkv, &batch.positions, &self.rope, shape.n_heads + shape.n_kv_heads)?;
            ops::matmul_backward_input(d_normed, d_qkv, &weights.qkv, false)?;
            ops::matmul_backward_weight(&mut grads.qkv, d_qkv, &acts.normed)?;
            ops::rms_norm_backward(
                d_residual,
                &mut grads.input_norm,
                d_normed,
                &acts.residual,
                &weights.input_norm,
                &acts.rstd,
            )?;
        }
        ops::embedding_backward(&mut grads.embed, d_residual, &batch.tokens)?;
        Ok(())
    }

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
        let mut row = 0;
        let mut cached = Vec::with_capacity(spans.len());
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
        ops::embedding_forward(&mut residual, &self.params.embed, &tokens)?;
        for (layer, weights) in self.params.layers.iter().enumerate() {
            let (keys, values) = cache.layer_mut(layer);
            ops::rms_norm_forward(&mut normed, &mut rstd, &residual, &weights.input_norm, eps)?;
            ops::matmul(&mut qkv, &normed, &weights.qkv, false)?;
            ops::rope_forward(&mut qkv, &positions, &self.rope, shape.n_heads + shape.n_kv_heads)?;
            ops::cache_append(keys, values, &qkv, &spans, shape)?;
            ops::attention_cached(&mut attended, &qkv, keys, values, &spans, shape)?;
            ops::matmul(&mut residual, &attended, &weights.out, true)?;
            ops::rms_norm_forward(&mut normed, &mut rstd, &residual, &weights.post_norm, eps)?;
            ops::matmul(&mut gate_up, &normed, &weights.gate_up, false)?;
            ops::swiglu_forward(&mut gated, &gate_up)?;
            ops::matmul(&mut residual, &gated, &weights.down, true)?;
        }
        let last_rows = spans.iter().map(|span| span.row + span.len - 1);
        let ends = last_rows.flat_map(|row| residual.as_slice()[row * c..(row + 1) * c].iter().copied());
        let ends = Tensor::from_vec(&[spans.len(), c], ends.collect())?;
        let mut hidden = Tensor::zeros(ends.shape(), &Device::Cpu)?;
        rstd.set_rows(spans.len());
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
        let head = self.params.head();
        let mut logits = Tensor::zeros(&[hidden.rows(), head.rows()], &Device::Cpu)?;
        ops::matmul(&mut logits, hidden, head, false)?;
        Ok(logits)
    }
}

/// Fills a (O, I) matrix with N(0, (scale / sqrt(I))^2), by the Box-Muller transform.
fn normal(tensor: &mut Tensor, scale: f64, rng: &mut impl Rng) {
    let std = scale / (tensor.row_len() as f64).sqrt();
    for pair in tensor.as_mut_slice().chunks_mut(2) {
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
        let angle = 2.0 * std::f64::consts::PI * rng.random::<f64>();
        let draws = [radius * angle.cos(), radius * angle.sin()];
        for (x, draw) in pair.iter_mut().zip(draws) {
            *x = (std * draw) as f32;
        }
    }
}
