//! The network, forward and backward, op by op.

mod backward;
mod block;
mod cached;
mod cached_work;
mod linear;
mod packed;

use std::sync::Arc;

use rand::{Rng, RngExt};
use reskill_kernels::ops::{self, PackedWeight, RopeTable, WeightStorage};
use reskill_kernels::{Device, KernelError, Tensor};

use self::block::Block;
pub(crate) use self::cached_work::CachedWork;
use self::packed::PackedParams;
use crate::activations::Workspace;
use crate::batch::PackedBatch;
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::layout;
use crate::lora::Lora;
use crate::params::Params;
use crate::rope_config::rope_table;

/// A decoder: configuration, weights, rotary table, and perhaps an adapter. A clone shares the weights until one of both
/// is written to.
#[derive(Debug, Clone)]
pub struct Transformer {
    config: ModelConfig,
    params: Arc<Params>,
    /// A copy of the projections for generation.
    packed: Option<Arc<PackedParams>>,
    rope: Arc<RopeTable>,
    adapter: Option<Lora>,
    adapter_on: bool,
}

impl Transformer {
    /// A model over given weights.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn new(config: &ModelConfig, params: Params) -> Result<Transformer, ModelError> {
        config.validate()?;
        let rope = Arc::new(rope_table(config)?.to_device(&params.device())?);
        let params = Arc::new(params);
        Ok(Transformer {
            config: config.clone(),
            params,
            packed: None,
            rope,
            adapter: None,
            adapter_on: false,
        })
    }

    /// A model with random weights.
    ///
    /// A projection of I inputs is drawn from N(0, 1/I), so that it keeps the size of its input; the two of a block that
    /// write to the residual stream have their standard deviation divided by sqrt(2 L), as in GPT-2. Embeddings and an
    /// untied head are drawn from N(0, 1/C): GPT-2's standard deviation of 0.02 would tell tokens apart only slowly at
    /// the widths this crate is used with. Norms start at 1,
    /// biases at 0.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn init(config: &ModelConfig, rng: &mut impl Rng) -> Result<Transformer, ModelError> {
        let mut params = Params::zeros(config)?;
        let into_residual = 1.0 / (2.0 * config.num_hidden_layers as f64).sqrt();
        normal(&mut params.embed, 1.0, rng)?;
        for layer in &mut params.layers {
            layer.input_norm.fill(1.0)?;
            layer.post_norm.fill(1.0)?;
            normal(&mut layer.qkv, 1.0, rng)?;
            normal(&mut layer.out, into_residual, rng)?;
            normal(&mut layer.gate_up, 1.0, rng)?;
            normal(&mut layer.down, into_residual, rng)?;
            for norm in [&mut layer.q_norm, &mut layer.k_norm].into_iter().flatten() {
                norm.fill(1.0)?;
            }
        }
        params.final_norm.fill(1.0)?;
        if let Some(head) = &mut params.head {
            normal(head, 1.0, rng)?;
        }
        Transformer::new(config, params)
    }

    /// A copy on a device, stored in its precision: rounded, if that is bf16. Panels are left behind: they are for the CPU.
    ///
    /// # Errors
    /// [`ModelError::Kernel`] if the device has no room.
    pub fn to_device(&self, device: &Device) -> Result<Transformer, ModelError> {
        let dtype = device.precision();
        let adapter = self.adapter.as_ref().map(|adapter| adapter.to_device(device, dtype)).transpose()?;
        Ok(Transformer {
            config: self.config.clone(),
            params: Arc::new(self.params.to_device(device, dtype)?),
            packed: None,
            rope: Arc::new(self.rope.to_device(device)?),
            adapter,
            adapter_on: self.adapter_on,
        })
    }

    /// Where the weights are.
    #[must_use]
    pub fn device(&self) -> Device {
        self.params.device()
    }

    /// The sizes.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The weights, without the adapter.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The weights, to update. Panels made of them are dropped.
    pub fn params_mut(&mut self) -> &mut Params {
        self.packed = None;
        Arc::make_mut(&mut self.params)
    }

    /// Makes a copy of the projections in panels, with which tokens are generated from now on: the bytes of the weights
    /// once more in f32, half of them in bf16, which rounds. Training and [`Transformer::forward`] keep to the weights
    /// themselves, so log-probabilities of the two agree to rounding; without panels they agree to the bit.
    ///
    /// The panels are dropped when the weights change; an adapter stays beside them. Weights on another device than the
    /// CPU are left as they are: panels are how a CPU reads, and `precision` of the device says how they are stored.
    pub fn pack(&mut self, storage: WeightStorage) {
        if !self.device().is_cpu() {
            return;
        }
        self.packed = Some(Arc::new(PackedParams::new(&self.params, storage)));
    }

    /// Bytes of the panels, if there are any.
    #[must_use]
    pub fn packed_bytes(&self) -> Option<usize> {
        self.packed.as_ref().map(|packed| packed.bytes())
    }

    /// The head in panels, if there are any.
    pub(crate) fn packed_head(&self) -> Option<&PackedWeight> {
        self.packed.as_ref().map(|packed| &packed.head)
    }

    /// Puts an adapter beside the weights, on their device, and turns it on. From now on it is what is trained.
    ///
    /// # Errors
    /// [`ModelError::AdapterSize`] if it was made for a model of another size; [`ModelError::Kernel`] if the device has no
    /// room.
    pub fn attach(&mut self, adapter: Lora) -> Result<(), ModelError> {
        adapter.check_fits(&self.config)?;
        let (device, stored) = (self.device(), self.params.embed.dtype());
        let fits = adapter.tensors().iter().all(|t| t.device() == device && t.dtype() == stored);
        let adapter = if fits { adapter } else { adapter.to_device(&device, stored)? };
        (self.adapter, self.adapter_on) = (Some(adapter), true);
        Ok(())
    }

    /// The adapter, on or off.
    #[must_use]
    pub fn adapter(&self) -> Option<&Lora> {
        self.adapter.as_ref()
    }

    /// Turns the adapter on or off.
    pub fn set_adapter_on(&mut self, on: bool) {
        self.adapter_on = on;
    }

    /// The model without its adapter: the reference policy. The weights are shared, not copied.
    #[must_use]
    pub fn without_adapter(&self) -> Transformer {
        Transformer { adapter: None, ..self.clone() }
    }

    /// Adds the adapter to the weights and drops it. The network computes what it computed, to rounding.
    ///
    /// # Errors
    /// None on the CPU; [`ModelError::Kernel`] if a device fails.
    pub fn merge_adapter(&mut self) -> Result<(), ModelError> {
        match self.adapter.take() {
            Some(adapter) => adapter.merge_into(&mut self.params_mut().layers),
            None => Ok(()),
        }
    }

    /// What is trained: the factors of the adapter if there is one, else all weights.
    #[must_use]
    pub fn trainable(&self) -> Vec<&Tensor> {
        self.adapter.as_ref().map_or_else(|| self.params.tensors(), Lora::tensors)
    }

    /// What is trained, to update, in the order of [`Transformer::trainable`].
    pub fn trainable_mut(&mut self) -> Vec<&mut Tensor> {
        match &mut self.adapter {
            Some(adapter) => adapter.tensors_mut(),
            None => {
                self.packed = None;
                Arc::make_mut(&mut self.params).tensors_mut()
            }
        }
    }

    /// Names of what is trained, in the order of [`Transformer::trainable`]. A fused projection bears the name of its
    /// first part.
    #[must_use]
    pub fn trainable_names(&self) -> Vec<String> {
        let first_parts = || {
            let entries = layout::entries(&self.config).into_iter().filter(|entry| entry.first_row == 0);
            entries.map(|entry| entry.name).collect()
        };
        self.adapter.as_ref().map_or_else(first_parts, Lora::names)
    }

    /// `Ok` if all tokens are of the vocabulary: a device does not say so by itself.
    pub(crate) fn check_tokens(&self, tokens: &[u32]) -> Result<(), ModelError> {
        let vocab_size = self.params.embed.rows();
        match tokens.iter().find(|&&token| token as usize >= vocab_size) {
            None => Ok(()),
            Some(token) => {
                let (got, expected) = (token.to_string(), format!("< {vocab_size}"));
                Err(KernelError::Range { op: "embedding_forward", arg: "tokens", got, expected }.into())
            }
        }
    }

    fn active_adapter(&self) -> Option<&Lora> {
        self.adapter.as_ref().filter(|_| self.adapter_on)
    }

    /// The blocks, first to last.
    fn blocks<'a>(
        &'a self,
        lora: Option<&'a Lora>,
    ) -> impl DoubleEndedIterator<Item = Block<'a>> + ExactSizeIterator {
        let (config, rope) = (&self.config, &*self.rope);
        let layers = self.params.layers.iter().enumerate();
        layers.map(move |(layer, weights)| Block { config, rope, weights, packed: None, layer, lora })
    }

    /// The blocks with the active adapter, and with panels if there are any.
    fn packed_blocks(&self) -> impl Iterator<Item = Block<'_>> {
        let blocks = self.blocks(self.active_adapter());
        blocks.map(|block| {
            let packed = self.packed.as_ref().map(|packed| &packed.layers[block.layer]);
            Block { packed, ..block }
        })
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
        workspace.set_rows(batch.len())?;
        let recomputes = workspace.recomputes();
        let Workspace { residuals, layers, last, hidden, final_rstd, .. } = workspace;
        ops::embedding_forward(last, &self.params.embed, &batch.tokens)?;
        for (layer, block) in self.blocks(self.active_adapter()).enumerate() {
            let acts = &mut layers[if recomputes { 0 } else { layer }];
            residuals[layer].copy_from(last)?;
            block.forward(acts, &residuals[layer], batch)?;
            last.copy_from(&acts.middle)?;
            block.down().forward(last, &acts.gated, true)?;
        }
        ops::rms_norm_forward(hidden, final_rstd, last, &self.params.final_norm, self.config.rms_norm_eps)?;
        Ok(hidden)
    }
}

/// Fills a (O, I) matrix with N(0, (scale / sqrt(I))^2), by the Box-Muller transform.
fn normal(tensor: &mut Tensor, scale: f64, rng: &mut impl Rng) -> Result<(), ModelError> {
    let std = scale / (tensor.row_len() as f64).sqrt();
    for pair in tensor.host_mut()?.chunks_mut(2) {
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
        let angle = 2.0 * std::f64::consts::PI * rng.random::<f64>();
        let draws = [radius * angle.cos(), radius * angle.sin()];
        for (x, draw) in pair.iter_mut().zip(draws) {
            *x = (std * draw) as f32;
        }
    }
    Ok(())
}
