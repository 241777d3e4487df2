//! Log-probabilities of the tokens of a text.

use reskill_kernels::ops::{self, TokenSets};
use reskill_kernels::{DType, Tensor};

use crate::activations::Workspace;
use crate::batch::PackedBatch;
use crate::error::ModelError;
use crate::transformer::Transformer;

/// The log-probability of every token after the first, given those before it, at temperature 1.
///
/// - `workspace`: of this model, on its device; [`Workspace::recomputing`] takes the least memory
/// - result: one number less than `ids`; none for fewer than two
///
/// # Errors
/// [`ModelError::Context`] if the text is longer than the model's positions; [`ModelError::Kernel`] for a token outside
/// the vocabulary.
pub fn token_logprobs(
    model: &Transformer,
    workspace: &mut Workspace,
    ids: &[u32],
) -> Result<Vec<f32>, ModelError> {
    let (config, n) = (model.config(), ids.len().saturating_sub(1));
    if ids.len() > config.max_position_embeddings {
        return Err(ModelError::Context { len: ids.len(), capacity: config.max_position_embeddings });
    }
    model.check_tokens(ids)?;
    let device = model.device();
    let hidden = model.forward(workspace, &PackedBatch::causal(ids)?.to_device(&device)?)?;
    if n == 0 {
        return Ok(Vec::new());
    }
    let mut predicting = Tensor::zeros_as(&[n, config.hidden_size], &device, hidden.dtype())?;
    predicting.copy_rows_from(0, hidden, 0, n)?;
    let mut allowed = TokenSets::new();
    (0..n).for_each(|_| allowed.push(&[]));
    let column = || Tensor::zeros(&[n], &device);
    let (mut logprobs, mut entropy, mut lse) = (column()?, column()?, column()?);
    ops::linear_logprob_forward(
        &mut logprobs,
        &mut entropy,
        &mut lse,
        &predicting,
        model.params().head(),
        &Tensor::from_slice(&[n], &ids[1..], &device, DType::U32)?,
        &allowed,
        1.0,
    )?;
    Ok(logprobs.to_vec()?)
}
