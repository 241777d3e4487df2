//! One block, in the steps that packed and cached passes share.

use reskill_kernels::Tensor;
use reskill_kernels::ops::{self, PackedWeight, RopeTable, Rotation};

use super::linear::Linear;
use super::packed::PackedLayer;
use crate::activations::{HeadNorms, LayerActivations};
use crate::batch::PackedBatch;
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::lora::{Fused, Lora};
use crate::params::LayerParams;

/// A block: its weights and what they need beside them.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) rope: &'a RopeTable,
    pub(super) weights: &'a LayerParams,
    /// The weights in panels, if the pass multiplies with these.
    pub(super) packed: Option<&'a PackedLayer>,
    /// Which block.
    pub(super) layer: usize,
    /// The adapter, if it is on.
    pub(super) lora: Option<&'a Lora>,
}

impl<'a> Block<'a> {
    pub(super) fn qkv(&self) -> Linear<'a> {
        let packed = self.packed.map(|packed| &packed.qkv);
        self.linear(&self.weights.qkv, packed, self.weights.qkv_bias.as_ref(), Fused::Qkv)
    }

    pub(super) fn out(&self) -> Linear<'a> {
        let packed = self.packed.map(|packed| &packed.out);
        self.linear(&self.weights.out, packed, self.weights.out_bias.as_ref(), Fused::Out)
    }

    pub(super) fn gate_up(&self) -> Linear<'a> {
        let packed = self.packed.map(|packed| &packed.gate_up);
        self.linear(&self.weights.gate_up, packed, self.weights.gate_up_bias.as_ref(), Fused::GateUp)
    }

    pub(super) fn down(&self) -> Linear<'a> {
        let packed = self.packed.map(|packed| &packed.down);
        self.linear(&self.weights.down, packed, self.weights.down_bias.as_ref(), Fused::Down)
    }

    fn linear(
        &self,
        weight: &'a Tensor,
        packed: Option<&'a PackedWeight>,
        bias: Option<&'a Tensor>,
        fused: Fused,
    ) -> Linear<'a> {
        Linear { weight, packed, bias, lora: self.lora.map(|lora| (lora, self.layer, fused)) }
    }

    /// Heads that are rotated: queries and keys.
    pub(super) fn rotated_heads(&self) -> usize {
        self.config.num_attention_heads + self.config.num_key_value_heads
    }

    /// (N, (H + 2K) D) from the normalised residual stream: projected, normalised by head, rotated.
    pub(super) fn heads(
        &self,
        qkv: &mut Tensor,
        norms: &mut HeadNorms,
        normed: &Tensor,
        positions: &Tensor<u32>,
    ) -> Result<(), ModelError> {
        self.qkv().forward(qkv, normed, false)?;
        if let (Some(q_norm), Some(k_norm)) = (&self.weights.q_norm, &self.weights.k_norm) {
            let (shape, eps) = (self.config.attention_shape(), self.config.rms_norm_eps);
            let HeadNorms { raw, rstd } = norms;
            let rotation = Rotation { positions, table: self.rope };
            ops::qk_norm_rope_forward(qkv, raw, rstd, (q_norm, k_norm), rotation, shape, eps)?;
            return Ok(());
        }
        ops::rope_forward(qkv, positions, self.rope, self.rotated_heads())?;
        Ok(())
    }

    /// A packed pass from `residual` (N, C) up to what the last projection multiplies.
    pub(super) fn forward(
        &self,
        acts: &mut LayerActivations,
        residual: &Tensor,
        batch: &PackedBatch,
    ) -> Result<(), ModelError> {
        let (shape, eps) = (self.config.attention_shape(), self.config.rms_norm_eps);
        ops::rms_norm_forward(&mut acts.normed, &mut acts.rstd, residual, &self.weights.input_norm, eps)?;
        self.heads(&mut acts.qkv, &mut acts.head_norms, &acts.normed, &batch.positions)?;
        ops::attention_forward(&mut acts.attended, &mut acts.lse, &acts.qkv, &batch.segments, shape)?;
        acts.middle.copy_from(residual)?;
        self.out().forward(&mut acts.middle, &acts.attended, true)?;
        ops::rms_norm_forward(
            &mut acts.post_normed,
            &mut acts.post_rstd,
            &acts.middle,
            &self.weights.post_norm,
            eps,
        )?;
        self.gate_up().forward(&mut acts.gate_up, &acts.post_normed, false)?;
        ops::swiglu_forward(&mut acts.gated, &acts.gate_up)?;
        Ok(())
    }
}
