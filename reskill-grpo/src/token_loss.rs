//! The loss of a flat list of tokens from their hidden states: for those who have no trajectories, as other languages.
//!
//! The fused log-probability runs in f32, as in training; the loss itself, its sums and its slopes are f64, so that
//! ratios beyond the range of f32 stay numbers. Results are within about 1e-5 of an f64 version relative to the largest
//! element while logits are below 50; each factor of ten beyond that costs a digit. Over more than 1,024 tokens of vocabulary the
//! gradient of a target whose probability is within 1e-4 of 1 keeps three digits: there `1 - p` is computed as it stands.

use std::collections::BTreeMap;

use reskill_kernels::ops::{self, GrpoLossInputs, GrpoLossParams, TokenSets};
use reskill_kernels::{Device, Tensor};

use crate::error::GrpoError;
use crate::loss::Aggregation;

/// A list of N tokens.
#[derive(Debug, Clone)]
pub struct TokenLossInputs<'a> {
    /// (N, C) f32.
    pub hidden: &'a Tensor,
    /// (V, C) f32.
    pub head: &'a Tensor,
    /// (N) u32.
    pub targets: &'a Tensor<u32>,
    /// (N): log-probabilities under the policy that sampled.
    pub old_logprobs: &'a [f64],
    /// (N): log-probabilities under the reference; not read if `kl_coef` is 0.
    pub ref_logprobs: &'a [f64],
    /// (N): advantages.
    pub advantages: &'a [f64],
    /// (N): which tokens count.
    pub loss_mask: &'a [bool],
    /// (N): the sequence of each token, any numbers in any order.
    pub seq_ids: &'a [i64],
}

/// What is computed of them.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLoss {
    /// The loss.
    pub loss: f64,
    /// (N): log-probabilities, of masked tokens too.
    pub logprobs: Vec<f32>,
    /// (N): entropies in nats, of masked tokens too.
    pub entropy: Vec<f32>,
    /// (N, C), row-major: gradient by the hidden states.
    pub d_hidden: Vec<f64>,
    /// (V, C), row-major: gradient by the head.
    pub d_head: Vec<f64>,
}

/// How the tokens are aggregated, and the temperature of their softmax.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLossConfig {
    /// The loss of a token.
    pub params: GrpoLossParams,
    /// How tokens become one number. Sequences without a token that counts are not counted.
    pub aggregation: Aggregation,
    /// The divisor of [`Aggregation::Constant`].
    pub constant: f64,
    /// Divides the logits.
    pub temperature: f32,
}

/// Loss and gradients. Without a token that counts all of them are 0.
///
/// # Errors
/// [`GrpoError::LengthMismatch`]; [`GrpoError::Kernel`] for odd shapes, tokens or numbers.
pub fn token_loss(inputs: &TokenLossInputs<'_>, config: &TokenLossConfig) -> Result<TokenLoss, GrpoError> {
    let n = inputs.hidden.rows();
    check_lengths(inputs, config, n)?;
    let mut allowed = TokenSets::new();
    (0..n).for_each(|_| allowed.push(&[]));
    let column = || Tensor::<f32>::zeros(&[n], &Device::Cpu);
    let (mut logprobs, mut entropy, mut lse) = (column()?, column()?, column()?);
    ops::linear_logprob_forward(
        &mut logprobs,
        &mut entropy,
        &mut lse,
        inputs.hidden,
        inputs.head,
        inputs.targets,
        &allowed,
        config.temperature,
    )?;
    let (loss, d_logprobs, d_entropy) = slopes(inputs, config, &logprobs, &entropy)?;
    // The backward pass is f32: slopes go in at a scale that brings the largest to 1, and come out at their own.
    let largest = d_logprobs.iter().chain(&d_entropy).fold(0.0_f64, |a, x| a.max(x.abs()));
    let scale = if largest > 0.0 && largest.is_finite() { largest } else { 1.0 };
    let scaled = |slopes: &[f64]| Tensor::from_vec(&[n], slopes.iter().map(|x| (x / scale) as f32).collect());
    let mut d_hidden = Tensor::zeros(inputs.hidden.shape(), &Device::Cpu)?;
    let mut d_head = Tensor::zeros(inputs.head.shape(), &Device::Cpu)?;
    ops::linear_logprob_backward(
        &mut d_hidden,
        &mut d_head,
        &scaled(&d_logprobs)?,
        &scaled(&d_entropy)?,
        &entropy,
        &lse,
        inputs.hidden,
        inputs.head,
        inputs.targets,
        &allowed,
        config.temperature,
    )?;
    let wide = |x: &Tensor| x.as_slice().iter().map(|&x| f64::from(x) * scale).collect();
    Ok(TokenLoss {
        loss,
        logprobs: logprobs.as_slice().to_vec(),
        entropy: entropy.as_slice().to_vec(),
        d_hidden: wide(&d_hidden),
        d_head: wide(&d_head),
    })
}

/// The loss, and its slopes by log-probabilities and entropies, in f64.
fn slopes(
    inputs: &TokenLossInputs<'_>,
    config: &TokenLossConfig,
    logprobs: &Tensor,
    entropy: &Tensor,
) -> Result<(f64, Vec<f64>, Vec<f64>), GrpoError> {
    let n = logprobs.len();
    let wide = |x: &Tensor| x.as_slice().iter().map(|&x| f64::from(x)).collect();
    let column = |values: Vec<f64>| Tensor::from_vec(&[n], values);
    let (weights, sequences) = weights(inputs, config);
    let old = column(inputs.old_logprobs.to_vec())?;
    let reference = if config.params.kl_coef == 0.0 { vec![0.0; n] } else { inputs.ref_logprobs.to_vec() };
    let (mut d_logprobs, mut d_entropy) = (column(vec![0.0; n])?, column(vec![0.0; n])?);
    let sums = ops::grpo_loss(
        &mut d_logprobs,
        &mut d_entropy,
        &GrpoLossInputs {
            logprobs: &column(wide(logprobs))?,
            old_logprobs: &old,
            sampler_logprobs: &old,
            ref_logprobs: &column(reference)?,
            entropy: &column(wide(entropy))?,
            advantages: &column(inputs.advantages.to_vec())?,
            weights: &column(weights)?,
            sequences: &Tensor::from_vec(&[n], sequences)?,
        },
        &config.params,
    )?;
    Ok((sums.loss, d_logprobs.as_slice().to_vec(), d_entropy.as_slice().to_vec()))
}

/// Weight and sequence number of each token.
fn weights(inputs: &TokenLossInputs<'_>, config: &TokenLossConfig) -> (Vec<f64>, Vec<u32>) {
    let mut counts: BTreeMap<i64, (u32, usize)> = BTreeMap::new();
    for (&id, &counted) in inputs.seq_ids.iter().zip(inputs.loss_mask) {
        let number = counts.len() as u32;
        counts.entry(id).or_insert((number, 0)).1 += usize::from(counted);
    }
    let n_tokens = inputs.loss_mask.iter().filter(|&&counted| counted).count() as f64;
    let n_sequences = counts.values().filter(|(_, n)| *n > 0).count() as f64;
    let weight = |(id, &counted): (&i64, &bool)| {
        if !counted {
            return 0.0;
        }
        1.0 / match config.aggregation {
            Aggregation::TokenMean => n_tokens,
            Aggregation::SeqMeanTokenSum => n_sequences,
            Aggregation::SeqMeanTokenMean => n_sequences * counts[id].1 as f64,
            Aggregation::Constant => config.constant,
        }
    };
    let weights = inputs.seq_ids.iter().zip(inputs.loss_mask).map(weight).collect();
    (weights, inputs.seq_ids.iter().map(|id| counts[id].0).collect())
}

fn check_lengths(inputs: &TokenLossInputs<'_>, config: &TokenLossConfig, n: usize) -> Result<(), GrpoError> {
    let has_reference = config.params.kl_coef != 0.0;
    for (right, right_len) in [
        ("old_logprobs", inputs.old_logprobs.len()),
        ("ref_logprobs", if has_reference { inputs.ref_logprobs.len() } else { n }),
        ("advantages", inputs.advantages.len()),
        ("loss_mask", inputs.loss_mask.len()),
        ("seq_ids", inputs.seq_ids.len()),
    ] {
        if right_len != n {
            return Err(GrpoError::LengthMismatch { left: "hidden", left_len: n, right, right_len });
        }
    }
    Ok(())
}
