//! Memory of a forward and backward pass, taken once and reused for every batch.

use reskill_kernels::{Device, Tensor};

use crate::config::ModelConfig;
use crate::error::ModelError;

/// What the backward pass needs of one block.
#[derive(Debug, Clone)]
pub(crate) struct LayerActivations {
    /// (N, C): residual stream before the block.
    pub(crate) residual: Tensor,
    /// (N, C), (N): first RMSNorm.
    pub(crate) normed: Tensor,
    pub(crate) rstd: Tensor,
    /// (N, (H + 2K) D): projections, rotated.
    pub(crate) qkv: Tensor,
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
#[derive(Debug, Clone)]
pub struct Workspace {
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
    /// An empty workspace for models of this size.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn new(config: &ModelConfig) -> Result<Workspace, ModelError> {
        config.validate()?;
        let rows = |width: usize| Tensor::zeros(&[0, width], &Device::Cpu);
        let column = || Tensor::zeros(&[0], &Device::Cpu);
        let (c, f) = (config.hidden_size, config.intermediate_size);
        let attention = config.attention_shape();
        let layers = (0..config.num_hidden_layers)
            .map(|_| {
                Ok(LayerActivations {
                    residual: rows(c)?,
                    normed: rows(c)?,
                    rstd: column()?,
                    qkv: rows(attention.qkv_width())?,
                    attended: rows(attention.out_width())?,
                    lse: rows(attention.n_heads)?,
                    middle: rows(c)?,
                    post_normed: rows(c)?,
                    post_rstd: column()?,
                    gate_up: rows(2 * f)?,
                    gated: rows(f)?,
                })
            })
            .collect::<Result<Vec<_>, ModelError>>()?;
        Ok(Workspace {
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

    /// (N, C): the normalised hidden states of the last forward pass.
    #[must_use]
    pub fn hidden(&self) -> &Tensor {
        &self.hidden
    }

    pub(crate) fn set_rows(&mut self, n: usize) {
        for layer in &mut self.layers {
            let LayerActivations {
                residual,
                normed,
                rstd,
                qkv,
                attended,
                lse,
                middle,
                post_normed,
                post_rstd,
                gate_up,
                gated,
            } = layer;
            for tensor in
                [residual, normed, rstd, qkv, attended, lse, middle, post_normed, post_rstd, gate_up, gated]
            {
                tensor.set_rows(n);
            }
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
            tensor.set_rows(n);
        }
    }
}
