//! Memory of a forward and backward pass, taken once and reused for every batch.

use reskill_kernels::{Device, Tensor};

use crate::config::ModelConfig;
use crate::error::ModelError;

/// What the backward pass needs of the norms of query and key heads; without width in models that have none.
#[derive(Debug, Clone)]
pub(crate) struct HeadNorms {
    /// (N, (H + K) D): queries and keys before the norm.
    pub(crate) raw: Tensor,
    /// (N, H + K).
    pub(crate) rstd: Tensor,
}

impl HeadNorms {
    pub(crate) fn new(config: &ModelConfig, device: &Device) -> Result<HeadNorms, ModelError> {
        let heads = if config.qk_norm { config.num_attention_heads + config.num_key_value_heads } else { 0 };
        let raw = Tensor::zeros_as(&[0, heads * config.head_dim], device, device.precision())?;
        Ok(HeadNorms { raw, rstd: Tensor::zeros(&[0, heads], device)? })
    }

    pub(crate) fn set_rows(&mut self, n: usize) -> Result<(), ModelError> {
        self.raw.set_rows(n)?;
        self.rstd.set_rows(n)?;
        Ok(())
    }
}

/// What the backward pass needs of one block, beside the residual stream before it.
#[derive(Debug, Clone)]
pub(crate) struct LayerActivations {
    /// (N, C), (N): first RMSNorm.
    pub(crate) normed: Tensor,
    pub(crate) rstd: Tensor,
    /// (N, (H + 2K) D): projections, rotated.
    pub(crate) qkv: Tensor,
    pub(crate) head_norms: HeadNorms,
    /// (N, H D), (N, H): attention.
    pub(crate) attended: Tensor,
    pub(crate) lse: Tensor,
    /// (N, C): residual stream between attention and MLP.
    pub(crate) middle: Tensor,
    /// (N, C), (N): second RMSNorm.
    pub(crate) post_normed: Tensor,
    pub(crate) post_rstd: Tensor,
    /// (N, 2F), (N, F): MLP.
    pub(crate) gate_up: Tensor,
    pub(crate) gated: Tensor,
}

/// Activations and gradients of activations for one packed batch. Grows to the largest batch seen and stays there.
///
/// Of N tokens, it holds N (4C + (H + 2K) D + H D + H + 3F) numbers a block, or with recomputation N C, and the rest once.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// L times (N, C): residual stream before each block.
    pub(crate) residuals: Vec<Tensor>,
    /// Of each block; of one block if the others are computed again in the backward pass.
    pub(crate) layers: Vec<LayerActivations>,
    /// (N, C): residual stream after the last block.
    pub(crate) last: Tensor,
    /// (N, C), (N): final RMSNorm.
    pub(crate) hidden: Tensor,
    pub(crate) final_rstd: Tensor,
    pub(crate) d_residual: Tensor,
    pub(crate) d_normed: Tensor,
    pub(crate) d_qkv: Tensor,
    pub(crate) d_attended: Tensor,
    pub(crate) d_gate_up: Tensor,
    pub(crate) d_gated: Tensor,
}

impl Workspace {
    /// An empty workspace for models of this size that keeps all activations.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn new(config: &ModelConfig) -> Result<Workspace, ModelError> {
        Workspace::on(&Device::Cpu, config)
    }

    /// An empty workspace that keeps the residual stream before each block alone: the backward pass runs each block
    /// forward again, for a third of a pass more time. Gradients are the same to the bit.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn recomputing(config: &ModelConfig) -> Result<Workspace, ModelError> {
        Workspace::recomputing_on(&Device::Cpu, config)
    }

    /// [`Workspace::new`] on a device, in its precision.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn on(device: &Device, config: &ModelConfig) -> Result<Workspace, ModelError> {
        Workspace::with_kept_blocks(device, config, config.num_hidden_layers)
    }

    /// [`Workspace::recomputing`] on a device, in its precision.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn recomputing_on(device: &Device, config: &ModelConfig) -> Result<Workspace, ModelError> {
        Workspace::with_kept_blocks(device, config, 1)
    }

    fn with_kept_blocks(device: &Device, config: &ModelConfig, kept: usize) -> Result<Workspace, ModelError> {
        config.validate()?;
        let rows = |width: usize| Tensor::zeros_as(&[0, width], device, device.precision());
        let column = || Tensor::zeros(&[0], device);
        let (c, f) = (config.hidden_size, config.intermediate_size);
        let attention = config.attention_shape();
        let layers = (0..kept)
            .map(|_| {
                Ok(LayerActivations {
                    normed: rows(c)?,
                    rstd: column()?,
                    qkv: rows(attention.qkv_width())?,
                    head_norms: HeadNorms::new(config, device)?,
                    attended: rows(attention.out_width())?,
                    lse: Tensor::zeros(&[0, attention.n_heads], device)?,
                    middle: rows(c)?,
                    post_normed: rows(c)?,
                    post_rstd: column()?,
                    gate_up: rows(2 * f)?,
                    gated: rows(f)?,
                })
            })
            .collect::<Result<Vec<_>, ModelError>>()?;
        Ok(Workspace {
            residuals: (0..config.num_hidden_layers).map(|_| rows(c)).collect::<Result<_, _>>()?,
            layers,
            last: rows(c)?,
            hidden: rows(c)?,
            final_rstd: column()?,
            d_residual: rows(c)?,
            d_normed: rows(c)?,
            d_qkv: rows(attention.qkv_width())?,
            d_attended: rows(attention.out_width())?,
            d_gate_up: rows(2 * f)?,
            d_gated: rows(f)?,
        })
    }

    /// Whether the backward pass computes activations again.
    pub(crate) fn recomputes(&self) -> bool {
        self.layers.len() < self.residuals.len()
    }

    /// Where it is.
    #[must_use]
    pub fn device(&self) -> Device {
        self.last.device()
    }

    /// (N, C): the normalised hidden states of the last forward pass.
    #[must_use]
    pub fn hidden(&self) -> &Tensor {
        &self.hidden
    }

    pub(crate) fn set_rows(&mut self, n: usize) -> Result<(), ModelError> {
        for layer in &mut self.layers {
            let LayerActivations {
                normed,
                rstd,
                qkv,
                head_norms,
                attended,
                lse,
                middle,
                post_normed,
                post_rstd,
                gate_up,
                gated,
            } = layer;
            head_norms.set_rows(n)?;
            for tensor in [normed, rstd, qkv, attended, lse, middle, post_normed, post_rstd, gate_up, gated] {
                tensor.set_rows(n)?;
            }
        }
        for residual in &mut self.residuals {
            residual.set_rows(n)?;
        }
        for tensor in [
            &mut self.last,
            &mut self.hidden,
            &mut self.final_rstd,
            &mut self.d_residual,
            &mut self.d_normed,
            &mut self.d_qkv,
            &mut self.d_attended,
            &mut self.d_gate_up,
            &mut self.d_gated,
        ] {
            tensor.set_rows(n)?;
        }
        Ok(())
    }
}
