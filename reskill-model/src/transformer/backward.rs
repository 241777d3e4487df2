//! The backward pass, op by op.

use reskill_kernels::Tensor;
use reskill_kernels::ops::{self, Rotation};

use super::Transformer;
use super::block::Block;
use super::linear::LinearGrads;
use crate::activations::{LayerActivations, Workspace};
use crate::batch::PackedBatch;
use crate::error::ModelError;
use crate::gradients::Gradients;
use crate::lora::{Fused, Lora};
use crate::params::{LayerParams, Params};

/// Where gradients are added.
enum Sink<'a> {
    Full(&'a mut Params),
    Adapter(&'a mut Lora),
}

/// Where the gradients of one block are added.
enum BlockSink<'a> {
    Full(&'a mut LayerParams),
    Adapter(&'a mut Lora, usize),
}

impl Transformer {
    /// Adds the gradients of the weights to `grads`, for the batch of the last [`Transformer::forward`] on this
    /// workspace.
    ///
    /// - `d_hidden`: (N, C), gradient by the result of the forward pass, stored as that
    ///
    /// # Errors
    /// [`ModelError::Kernel`] if `d_hidden` has another shape; [`ModelError::Frozen`] if an adapter is on.
    pub fn backward(
        &self,
        grads: &mut Params,
        workspace: &mut Workspace,
        batch: &PackedBatch,
        d_hidden: &Tensor,
    ) -> Result<(), ModelError> {
        if self.active_adapter().is_some() {
            return Err(ModelError::Frozen { what: "the weights", because: "an adapter is on" });
        }
        self.run_backward(Sink::Full(grads), workspace, batch, d_hidden)
    }

    /// Adds the gradients of what this model trains, its adapter or else its weights, to `grads`.
    ///
    /// The weights of a model with an adapter are frozen: no gradient of theirs is computed or held.
    ///
    /// # Errors
    /// As [`Transformer::backward`]; [`ModelError::Frozen`] if `grads` are not those of what is trained, or the adapter
    /// is off.
    pub fn backward_trainable(
        &self,
        grads: &mut Gradients,
        workspace: &mut Workspace,
        batch: &PackedBatch,
        d_hidden: &Tensor,
    ) -> Result<(), ModelError> {
        match grads {
            Gradients::Full(params) => self.backward(params, workspace, batch, d_hidden),
            Gradients::Adapter(_) if self.active_adapter().is_none() => {
                Err(ModelError::Frozen { what: "the adapter", because: "it is off or not there" })
            }
            Gradients::Adapter(lora) => self.run_backward(Sink::Adapter(lora), workspace, batch, d_hidden),
        }
    }

    fn run_backward(
        &self,
        mut sink: Sink<'_>,
        workspace: &mut Workspace,
        batch: &PackedBatch,
        d_hidden: &Tensor,
    ) -> Result<(), ModelError> {
        let mut unused = Tensor::zeros(&[self.config.hidden_size], &self.device())?;
        workspace.d_residual.fill(0.0)?;
        let d_final_norm = match &mut sink {
            Sink::Full(grads) => &mut grads.final_norm,
            Sink::Adapter(_) => &mut unused,
        };
        ops::rms_norm_backward(
            &mut workspace.d_residual,
            d_final_norm,
            d_hidden,
            &workspace.last,
            &self.params.final_norm,
            &workspace.final_rstd,
        )?;
        let recomputes = workspace.recomputes();
        for (layer, block) in self.blocks(self.active_adapter()).enumerate().rev() {
            let slot = if recomputes { 0 } else { layer };
            let (residual, acts) = (&workspace.residuals[layer], &mut workspace.layers[slot]);
            if recomputes {
                block.forward(acts, residual, batch)?;
            }
            let grads = match &mut sink {
                Sink::Full(grads) => BlockSink::Full(&mut grads.layers[layer]),
                Sink::Adapter(lora) => BlockSink::Adapter(lora, layer),
            };
            let down = &mut BlockDown {
                d_residual: &mut workspace.d_residual,
                d_normed: &mut workspace.d_normed,
                d_qkv: &mut workspace.d_qkv,
                d_attended: &mut workspace.d_attended,
                d_gate_up: &mut workspace.d_gate_up,
                d_gated: &mut workspace.d_gated,
                unused: &mut unused,
            };
            down.block(&block, grads, acts, residual, batch)?;
        }
        if let Sink::Full(grads) = sink {
            ops::embedding_backward(&mut grads.embed, &workspace.d_residual, &batch.tokens)?;
        }
        Ok(())
    }
}

/// Gradients of activations on their way down, each in the shape of what it is the gradient of.
struct BlockDown<'a> {
    d_residual: &'a mut Tensor,
    d_normed: &'a mut Tensor,
    d_qkv: &'a mut Tensor,
    d_attended: &'a mut Tensor,
    d_gate_up: &'a mut Tensor,
    d_gated: &'a mut Tensor,
    /// (C): takes the gradient of norms that are frozen.
    unused: &'a mut Tensor,
}

impl BlockDown<'_> {
    fn block(
        &mut self,
        block: &Block<'_>,
        mut grads: BlockSink<'_>,
        acts: &LayerActivations,
        residual: &Tensor,
        batch: &PackedBatch,
    ) -> Result<(), ModelError> {
        let (weights, shape) = (block.weights, block.config.attention_shape());
        block.down().backward(self.d_gated, self.d_residual, &acts.gated, grads.linear(Fused::Down))?;
        ops::swiglu_backward(self.d_gate_up, self.d_gated, &acts.gate_up)?;
        block.gate_up().backward(
            self.d_normed,
            self.d_gate_up,
            &acts.post_normed,
            grads.linear(Fused::GateUp),
        )?;
        let d_post_norm = match &mut grads {
            BlockSink::Full(grads) => &mut grads.post_norm,
            BlockSink::Adapter(..) => &mut *self.unused,
        };
        ops::rms_norm_backward(
            self.d_residual,
            d_post_norm,
            self.d_normed,
            &acts.middle,
            &weights.post_norm,
            &acts.post_rstd,
        )?;
        block.out().backward(self.d_attended, self.d_residual, &acts.attended, grads.linear(Fused::Out))?;
        ops::attention_backward(
            self.d_qkv,
            self.d_attended,
            &acts.attended,
            &acts.lse,
            &acts.qkv,
            &batch.segments,
            shape,
        )?;
        self.heads(block, &mut grads, acts, batch)?;
        block.qkv().backward(self.d_normed, self.d_qkv, &acts.normed, grads.linear(Fused::Qkv))?;
        let d_input_norm = match &mut grads {
            BlockSink::Full(grads) => &mut grads.input_norm,
            BlockSink::Adapter(..) => &mut *self.unused,
        };
        ops::rms_norm_backward(
            self.d_residual,
            d_input_norm,
            self.d_normed,
            residual,
            &weights.input_norm,
            &acts.rstd,
        )?;
        Ok(())
    }

    /// Through the rotation of heads and their norms, if there are any.
    fn heads(
        &mut self,
        block: &Block<'_>,
        grads: &mut BlockSink<'_>,
        acts: &LayerActivations,
        batch: &PackedBatch,
    ) -> Result<(), ModelError> {
        let (Some(q_norm), Some(k_norm)) = (&block.weights.q_norm, &block.weights.k_norm) else {
            ops::rope_backward(self.d_qkv, &batch.positions, block.rope, block.rotated_heads())?;
            return Ok(());
        };
        let unused = || Tensor::zeros(q_norm.shape(), &q_norm.device());
        let (mut q_unused, mut k_unused) = (unused()?, unused()?);
        let d_weights = match grads {
            BlockSink::Full(LayerParams { q_norm: Some(q), k_norm: Some(k), .. }) => (q, k),
            _ => (&mut q_unused, &mut k_unused),
        };
        let norms = &acts.head_norms;
        let shape = block.config.attention_shape();
        let rotation = Rotation { positions: &batch.positions, table: block.rope };
        let weights = (q_norm, k_norm);
        ops::qk_norm_rope_backward(self.d_qkv, d_weights, &norms.raw, &norms.rstd, weights, rotation, shape)?;
        Ok(())
    }
}

impl BlockSink<'_> {
    fn linear(&mut self, fused: Fused) -> LinearGrads<'_> {
        match self {
            BlockSink::Adapter(lora, layer) => LinearGrads::Adapter(lora, *layer, fused),
            BlockSink::Full(grads) => {
                let (weight, bias) = match fused {
                    Fused::Qkv => (&mut grads.qkv, &mut grads.qkv_bias),
                    Fused::Out => (&mut grads.out, &mut grads.out_bias),
                    Fused::GateUp => (&mut grads.gate_up, &mut grads.gate_up_bias),
                    Fused::Down => (&mut grads.down, &mut grads.down_bias),
                };
                LinearGrads::Full(weight, bias.as_mut())
            }
        }
    }
}
