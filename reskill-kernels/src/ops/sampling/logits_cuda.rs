//! Drawing tokens from logits on a CUDA device.

use super::logits::{SampledToken, SamplingFilter, check_lse};
use crate::cuda::{CudaDevice, Grid, Launch};
use crate::device::Device;
use crate::error::KernelError;
use crate::tensor::Tensor;

const OP: &str = "sample_logits";
/// Words of a drawn token in memory: token, log-probability, that of the distribution drawn from, log-sum-exp.
const WORDS: usize = 4;

/// One upload of filters and uniform numbers, one launch, and a download that waits for it.
pub(super) fn sample(
    device: &CudaDevice,
    logits: &Tensor,
    filters: &[SamplingFilter],
    uniforms: &[f32],
) -> Result<Vec<SampledToken>, KernelError> {
    let (n, vocab) = (logits.rows(), logits.row_len());
    let of_row = |filter: &SamplingFilter| {
        let top_k = u32::try_from(filter.top_k).unwrap_or(u32::MAX);
        [filter.temperature.to_bits(), top_k, filter.top_p.to_bits(), filter.min_p.to_bits()]
    };
    let words: Vec<u32> =
        filters.iter().flat_map(of_row).chain(uniforms.iter().map(|u| u.to_bits())).collect();
    let place = Device::Cuda(device.clone());
    let mut inputs = Tensor::<u32>::zeros(&[words.len()], &place)?;
    inputs.copy_from_slice(&words)?;
    let mut drawn = Tensor::<u32>::zeros(&[n, WORDS], &place)?;
    let kernel = logits.dtype().pick("sample_logits_f32", "sample_logits_bf16");
    let launch = Launch::of(device, OP, OP, kernel).output(&mut drawn).input(logits);
    let launch = launch.input(&inputs).input_at(&inputs, n * WORDS).size(vocab).number(weight_bits(vocab));
    // SAFETY:
    // - arguments: order and types match `sample_logits_T(Drawn*, const T*, const RowFilter*, const float*, int, int)`, T
    //   being the type of `logits`; filters and drawn tokens are four words each;
    // - bounds: a block a row of V logits, one filter, one uniform number and one drawn token;
    // - aliasing: `drawn` is borrowed mutably.
    unsafe { launch.launch(Grid::linear(n, 512)) }?;
    let words = drawn.to_vec()?;
    let token = |words: &[u32; WORDS]| {
        let [token, logprob, sampling_logprob, lse] = *words;
        check_lse(f32::from_bits(lse))?;
        let (logprob, sampling_logprob) = (f32::from_bits(logprob), f32::from_bits(sampling_logprob));
        Ok(SampledToken { token, logprob, sampling_logprob })
    };
    words.as_chunks::<WORDS>().0.iter().map(token).collect()
}

/// Bits of the largest weight, as an integer: as many as keep the sum of a vocabulary below 2^62.
fn weight_bits(vocab: usize) -> i32 {
    62 - vocab.next_power_of_two().ilog2() as i32
}
