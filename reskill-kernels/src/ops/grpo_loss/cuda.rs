//! The GRPO loss on a CUDA device.

use std::mem::size_of;

use super::real::Real;
use super::{GrpoLossInputs, GrpoLossParams, GrpoLossSums, KlEstimator, RatioLevel, Surrogate};
use crate::cuda::{CudaDevice, Grid, Launch, Scratch};
use crate::dtype::DType;
use crate::error::KernelError;
use crate::tensor::Tensor;

const OP: &str = "grpo_loss";
/// Sums of a block.
const SUMS: usize = GrpoLossSums::LEN;
/// Bits of `flags`.
const DUAL_CLIP: i32 = 1;
const LOG_RATIO_CLAMP: i32 = 2;
const K3_CLAMP: i32 = 4;
const TRUNCATION: i32 = 8;
const BY_SEQUENCE: i32 = 16;

/// Writes the gradients and, to `sums`, the fields of `GrpoLossSums` in their order, as f64.
pub(super) fn loss<F: Real>(
    device: &CudaDevice,
    d_logprobs: &mut Tensor<F>,
    d_entropy: &mut Tensor<F>,
    sums: &mut Tensor<f64>,
    inputs: &GrpoLossInputs<'_, F>,
    params: &GrpoLossParams,
) -> Result<(), KernelError> {
    let dtype = d_logprobs.dtype();
    if dtype != DType::F32 {
        return Err(KernelError::Unsupported {
            op: OP,
            device: format!("cuda:{}", device.ordinal()),
            what: format!("the loss in {dtype}"),
            remedy: "use f32; sums are f64 all the same",
        });
    }
    let n = d_logprobs.len();
    let by_sequence = params.ratio == RatioLevel::Sequence;
    let sequence_bytes = if by_sequence { n } else { 0 };
    let mean = device.scratch(OP, sequence_bytes * size_of::<f64>())?;
    let slopes = device.scratch(OP, sequence_bytes * size_of::<f32>())?;
    if by_sequence {
        let launch = Launch::of(device, OP, OP, "grpo_loss_sequence_mean").scratch(&mean, 0);
        let launch = launch.input(inputs.logprobs).input(inputs.old_logprobs).input(inputs.weights);
        // SAFETY:
        // - arguments: order and types match `grpo_loss_sequence_mean(double*, const float*, const float*, const float*,
        //   const u32*, int)`;
        // - bounds: all hold N elements (checked in `mod.rs`), threads from N on write nothing;
        // - aliasing: only scratch memory is written.
        unsafe { launch.input(inputs.sequences).size(n).launch(Grid::items(n)) }?;
    }
    let n_blocks = n.div_ceil(256);
    let part = device.scratch(OP, n_blocks * SUMS * size_of::<f64>())?;
    tokens(device, d_logprobs, d_entropy, [&part, &slopes, &mean], inputs, params)?;
    if by_sequence {
        let launch = Launch::of(device, OP, OP, "grpo_loss_sequence_share").output(d_logprobs);
        let launch = launch.scratch(&slopes, 0).input(inputs.weights).input(inputs.sequences).size(n);
        // SAFETY:
        // - arguments: order and types match `grpo_loss_sequence_share(float*, const float*, const float*, const u32*,
        //   int)`;
        // - bounds: all hold N elements, threads from N on write nothing;
        // - aliasing: `d_logprobs` is borrowed mutably.
        unsafe { launch.launch(Grid::items(n)) }?;
    }
    let launch = Launch::of(device, OP, OP, "grpo_loss_sums").output(sums).scratch(&part, 0).size(n_blocks);
    // SAFETY:
    // - arguments: order and types match `grpo_loss_sums(double*, const double*, int)`;
    // - bounds: `sums` holds nine f64 (checked in `mod.rs`), `part` nine a block;
    // - aliasing: `sums` is borrowed mutably.
    unsafe { launch.launch(Grid::linear(1, 32)) }
}

fn tokens<F: Real>(
    device: &CudaDevice,
    d_logprobs: &mut Tensor<F>,
    d_entropy: &mut Tensor<F>,
    [part, slopes, mean]: [&Scratch<'_>; 3],
    inputs: &GrpoLossInputs<'_, F>,
    params: &GrpoLossParams,
) -> Result<(), KernelError> {
    let n = d_logprobs.len();
    let truncates = params.importance_truncation.is_some();
    let launch = Launch::of(device, OP, OP, "grpo_loss_tokens").output(d_logprobs).output(d_entropy);
    let launch = launch.scratch(part, 0).scratch(slopes, 0).input(inputs.logprobs).input(inputs.old_logprobs);
    let launch = launch.optional_input(truncates.then_some(inputs.sampler_logprobs));
    let launch = launch.optional_input((params.kl_coef != 0.0).then_some(inputs.ref_logprobs));
    let launch = launch.input(inputs.entropy).input(inputs.advantages).input(inputs.weights).scratch(mean, 0);
    let numbers = [
        Some(params.clip_low),
        Some(params.clip_high),
        params.dual_clip,
        Some(params.kl_coef),
        Some(params.entropy_coef),
        params.log_ratio_clamp,
        params.k3_clamp,
        params.importance_truncation,
    ];
    let launch =
        launch.number(surrogate_code(params.surrogate)).number(kl_code(params.kl)).number(flags(params));
    let launch =
        numbers.into_iter().fold(launch, |launch, it| launch.number(it.unwrap_or_default() as f32)).size(n);
    // SAFETY:
    // - arguments: order and types match `grpo_loss_tokens(float*, float*, double*, float*, const float* x 7, const
    //   double*, int, int, int, float x 8, int)`, all columns being f32 (checked in `mod.rs`);
    // - bounds: columns hold N elements, threads from N on touch none; `part` holds nine f64 a block; `slopes` and `mean`
    //   hold N elements if flags say they are used; a null pointer belongs to a column that the flags leave unread;
    // - aliasing: both gradients are borrowed mutably, the rest that is written is scratch.
    unsafe { launch.launch(Grid::items(n)) }
}

fn surrogate_code(surrogate: Surrogate) -> i32 {
    match surrogate {
        Surrogate::Clip => 0,
        Surrogate::Cispo => 1,
        Surrogate::Sapo => 2,
        Surrogate::PolicyGradient => 3,
    }
}

fn kl_code(kl: KlEstimator) -> i32 {
    match kl {
        KlEstimator::K1 => 0,
        KlEstimator::K2 => 1,
        KlEstimator::K3 => 2,
        KlEstimator::Full => 3,
    }
}

fn flags(params: &GrpoLossParams) -> i32 {
    let bits = [
        (params.dual_clip.is_some(), DUAL_CLIP),
        (params.log_ratio_clamp.is_some(), LOG_RATIO_CLAMP),
        (params.k3_clamp.is_some(), K3_CLAMP),
        (params.importance_truncation.is_some(), TRUNCATION),
        (params.ratio == RatioLevel::Sequence, BY_SEQUENCE),
    ];
    bits.iter().map(|&(holds, bit)| if holds { bit } else { 0 }).sum()
}
