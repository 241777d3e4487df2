//! Sampling of the next token, with the log-probability it was sampled with.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod inversion;
mod logits;
#[cfg(feature = "cuda")]
mod logits_cuda;

pub use logits::{SampledToken, SamplingFilter, sample_logits};

use crate::device::{Device, placed};
use crate::dtype::DType;
use crate::error::{KernelError, check_range, check_shape};
use crate::ops::linear_logprob::cpu::Problem;
use crate::ops::linear_logprob::{TokenSets, check_inputs};
use crate::ops::packed_matmul::PackedWeight;
use crate::tensor::Tensor;

/// Draws `tokens[n]` from `softmax(hidden[n] . head^T / temperature)` over the tokens allowed in row `n`, by inversion
/// of the cumulative distribution at `uniforms[n]`. With `temperature` 0 the likeliest token is taken (the first in the
/// set on ties) and its log-probability is reported at temperature 1.
///
/// The log-probabilities equal those of [`crate::ops::linear_logprob_forward`] to the bit.
///
/// | argument | shape | dtype | direction |
/// |---|---|---|---|
/// | `tokens` | (N) | u32 | out |
/// | `logprobs` | (N) | f32 | out |
/// | `hidden` | (N, C) | T | in |
/// | `head` | (V, C) | T | in |
/// | `allowed` | N sets | | in |
/// | `uniforms` | (N) | f32 in 0..1 | in |
///
/// T is f32, or bf16 on a CUDA device.
///
/// # Errors
/// [`KernelError::Shape`]; [`KernelError::Range`] for a negative temperature or a token outside the vocabulary.
pub fn linear_sample(
    tokens: &mut Tensor<u32>,
    logprobs: &mut Tensor,
    hidden: &Tensor,
    head: &Tensor,
    allowed: &TokenSets,
    temperature: f32,
    uniforms: &Tensor,
) -> Result<(), KernelError> {
    checked_sample(tokens, logprobs, hidden, head, None, allowed, temperature, uniforms)
}

/// [`linear_sample`] with a copy of the head in panels, which rows over the whole vocabulary are multiplied by: it is read
/// as it lies, and of panels in bf16 half as many bytes. Rows with a set are multiplied by `head`. On a device the panels
/// are left aside.
///
/// The log-probabilities equal those of [`crate::ops::linear_logprob_forward`] to rounding; of panels in f32 to the bit, where
/// the processor has AVX-512.
///
/// - `panels`: (V, C), packed from `head`
///
/// # Errors
/// As [`linear_sample`].
#[expect(clippy::too_many_arguments, reason = "those of `linear_sample` and the panels")]
pub fn linear_sample_packed(
    tokens: &mut Tensor<u32>,
    logprobs: &mut Tensor,
    hidden: &Tensor,
    head: &Tensor,
    panels: &PackedWeight,
    allowed: &TokenSets,
    temperature: f32,
    uniforms: &Tensor,
) -> Result<(), KernelError> {
    check_shape("linear_sample", "panels", &[panels.outputs(), panels.inputs()], head.shape())?;
    checked_sample(tokens, logprobs, hidden, head, Some(panels), allowed, temperature, uniforms)
}

#[expect(clippy::too_many_arguments, reason = "those of `linear_sample_packed`")]
fn checked_sample(
    tokens: &mut Tensor<u32>,
    logprobs: &mut Tensor,
    hidden: &Tensor,
    head: &Tensor,
    panels: Option<&PackedWeight>,
    allowed: &TokenSets,
    temperature: f32,
    uniforms: &Tensor,
) -> Result<(), KernelError> {
    const OP: &str = "linear_sample";
    check_range(temperature >= 0.0, OP, "temperature", temperature, ">= 0")?;
    let softmax_temperature = if temperature == 0.0 { 1.0 } else { temperature };
    check_inputs(OP, hidden, head, allowed, softmax_temperature)?;
    check_shape(OP, "tokens", tokens.shape(), &[hidden.rows()])?;
    check_shape(OP, "logprobs", logprobs.shape(), &[hidden.rows()])?;
    check_shape(OP, "uniforms", uniforms.shape(), &[hidden.rows()])?;
    let t = hidden.dtype();
    let arguments = [
        hidden.is("hidden", t),
        head.is("head", t),
        tokens.is("tokens", DType::U32),
        logprobs.is("logprobs", DType::F32),
        uniforms.is("uniforms", DType::F32),
    ];
    let greedy = temperature == 0.0;
    match placed(OP, &arguments)? {
        Device::Cpu => {
            let problem = Problem { hidden, head, allowed, temperature: softmax_temperature };
            let draw = cpu::Draw { greedy, uniforms: uniforms.as_slice() };
            cpu::sample(tokens, logprobs, &problem, panels, draw);
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            let problem = crate::ops::linear_logprob::cuda::Problem {
                device: &device,
                op: OP,
                hidden,
                head,
                temperature: softmax_temperature,
            };
            cuda::sample(tokens, logprobs, &problem, allowed, greedy, uniforms)?;
        }
    }
    Ok(())
}
