//! Columns over the trained tokens of one packing, and the fused passes between them and the network.

use reskill_kernels::ops::{self, Distribution, GrpoLossInputs, GrpoLossParams, GrpoLossSums};
use reskill_kernels::{DType, Tensor};
use reskill_model::{Gradients, Transformer, Workspace};

use super::gathered::Gathered;
use super::token_columns::TokenColumns;
use crate::error::GrpoError;
use crate::packing::Packing;

/// What the forward pass leaves and the backward pass needs, each (R) f32.
pub(super) struct Columns {
    pub(super) logprobs: Tensor,
    entropy: Tensor,
    lse: Tensor,
    pub(super) d_logprobs: Tensor,
    d_entropy: Tensor,
    /// (R, C): hidden states of the rows that predict.
    selected: Tensor,
    /// The full divergence, where it is the penalty.
    divergence: Option<Divergence>,
}

/// The full divergence from a reference, and its gradient from above.
pub(super) struct Divergence {
    kl: Tensor,
    d_kl: Tensor,
    ref_lse: Tensor,
    ref_selected: Tensor,
}

/// What the packs of a mini-batch leave to be read.
pub(super) struct Left {
    /// [`GrpoLossSums`] of each pack.
    pub(super) sums: Gathered<f64>,
    /// Log-probabilities of the trained tokens.
    pub(super) logprobs: Gathered<f32>,
}

/// How both passes see the vocabulary.
#[derive(Debug, Clone, Copy)]
pub(super) struct Softmax {
    pub(super) temperature: f32,
    pub(super) filter: Option<f32>,
}

impl Columns {
    /// Log-probabilities and entropies of the trained tokens; keeps the activations in `workspace`.
    pub(super) fn forward(
        workspace: &mut Workspace,
        model: &Transformer,
        packing: &Packing,
        softmax: Softmax,
    ) -> Result<Columns, GrpoError> {
        let r = packing.targets.len();
        let device = model.device();
        let column = || Tensor::zeros(&[r], &device);
        let hidden = model.forward(workspace, &packing.batch)?;
        let mut selected = Tensor::zeros_as(&[r, hidden.row_len()], &device, hidden.dtype())?;
        ops::embedding_forward(&mut selected, hidden, &packing.rows)?;
        let mut columns = Columns {
            logprobs: column()?,
            entropy: column()?,
            lse: column()?,
            d_logprobs: column()?,
            d_entropy: column()?,
            selected,
            divergence: None,
        };
        ops::linear_logprob_forward(
            &mut columns.logprobs,
            &mut columns.entropy,
            &mut columns.lse,
            &columns.selected,
            model.params().head(),
            &packing.targets,
            &packing.allowed,
            softmax.temperature,
        )?;
        Ok(columns)
    }

    /// Computes the full divergence from what `reference` left; `d_kl` is its gradient from above.
    pub(super) fn diverge(
        &mut self,
        model: &Transformer,
        reference: Columns,
        ref_model: &Transformer,
        d_kl: &Tensor,
        packing: &Packing,
        softmax: Softmax,
    ) -> Result<(), GrpoError> {
        let mut kl = Tensor::zeros(self.logprobs.shape(), &self.logprobs.device())?;
        let policy = self.distribution(model);
        let other = reference.distribution(ref_model);
        ops::linear_kl_forward(&mut kl, policy, other, &packing.allowed, softmax.temperature)?;
        let Columns { lse: ref_lse, selected: ref_selected, .. } = reference;
        self.divergence = Some(Divergence { kl, d_kl: d_kl.try_clone()?, ref_lse, ref_selected });
        Ok(())
    }

    /// The loss of each token and its slopes, computed where the network ran. Its sums and the log-probabilities go to `left`.
    ///
    /// - `ref_logprobs`: those of the reference; none if there is no reference, or its full divergence is the penalty
    pub(super) fn loss(
        &mut self,
        tokens: &TokenColumns,
        ref_logprobs: Option<&Tensor>,
        params: &GrpoLossParams,
        left: &mut Left,
    ) -> Result<(), GrpoError> {
        let kl = self.divergence.as_ref().map(|divergence| &divergence.kl);
        let inputs = GrpoLossInputs {
            logprobs: &self.logprobs,
            old_logprobs: &tokens.old_logprobs,
            sampler_logprobs: &tokens.sampler_logprobs,
            // Not read where there is no reference.
            ref_logprobs: kl.or(ref_logprobs).unwrap_or(&tokens.old_logprobs),
            entropy: &self.entropy,
            advantages: &tokens.advantages,
            weights: &tokens.weights,
            sequences: &tokens.sequences,
        };
        let mut sums = Tensor::zeros(&[GrpoLossSums::LEN], &self.logprobs.device())?;
        let (d_logprobs, d_entropy) = (&mut self.d_logprobs, &mut self.d_entropy);
        ops::grpo_loss_into(d_logprobs, d_entropy, &mut sums, &inputs, params)?;
        left.sums.push(&sums)?;
        left.logprobs.push(&self.logprobs)
    }

    fn distribution<'a>(&'a self, model: &'a Transformer) -> Distribution<'a> {
        Distribution { hidden: &self.selected, head: model.params().head(), lse: &self.lse }
    }

    /// Adds the gradient of what is trained to `grads`, from `d_logprobs`, `d_entropy` and the divergence.
    pub(super) fn backward(
        &self,
        grads: &mut Gradients,
        workspace: &mut Workspace,
        model: &Transformer,
        ref_model: Option<&Transformer>,
        packing: &Packing,
        softmax: Softmax,
    ) -> Result<(), GrpoError> {
        let (device, dtype) = (self.selected.device(), self.selected.dtype());
        let mut d_selected = Tensor::zeros_as(self.selected.shape(), &device, dtype)?;
        self.head_backward(&mut d_selected, grads.head_mut(), model, packing, softmax)?;
        if let (Some(divergence), Some(ref_model)) = (&self.divergence, ref_model) {
            let other = Distribution {
                hidden: &divergence.ref_selected,
                head: ref_model.params().head(),
                lse: &divergence.ref_lse,
            };
            ops::linear_kl_backward(
                &mut d_selected,
                grads.head_mut(),
                &divergence.d_kl,
                &divergence.kl,
                self.distribution(model),
                other,
                &packing.allowed,
                softmax.temperature,
            )?;
        }
        // Every row predicts at most one token, so the sums below are copies: exact in f32, and in bf16 after it.
        let shape = [packing.batch.len(), d_selected.row_len()];
        let mut d_hidden = Tensor::zeros(&shape, &device)?;
        ops::embedding_backward(&mut d_hidden, &d_selected, &packing.rows)?;
        let d_hidden = if dtype == DType::F32 { d_hidden } else { d_hidden.to_device_as(&device, dtype)? };
        model.backward_trainable(grads, workspace, &packing.batch, &d_hidden)?;
        Ok(())
    }

    fn head_backward(
        &self,
        d_selected: &mut Tensor,
        d_head: Option<&mut Tensor>,
        model: &Transformer,
        packing: &Packing,
        softmax: Softmax,
    ) -> Result<(), GrpoError> {
        let head = model.params().head();
        let result = match softmax.filter {
            None => ops::linear_logprob_backward(
                d_selected,
                d_head,
                &self.d_logprobs,
                &self.d_entropy,
                &self.entropy,
                &self.lse,
                &self.selected,
                head,
                &packing.targets,
                &packing.allowed,
                softmax.temperature,
            ),
            Some(filter) => ops::linear_logprob_backward_filtered(
                d_selected,
                d_head,
                &self.d_logprobs,
                &self.d_entropy,
                &self.entropy,
                &self.lse,
                &self.selected,
                head,
                &packing.targets,
                &packing.allowed,
                softmax.temperature,
                filter,
            ),
        };
        Ok(result?)
    }
}
