//! The GRPO loss of each token and its gradient by the token's log-probability and entropy.
//!
//! Source: Shao et al. 2024, arXiv:2402.03300, eq. 3; dual clip: Ye et al. 2020, arXiv:1912.09729, eq. 5; asymmetric
//! clip: DAPO, arXiv:2503.14476. The variants name their own.

mod cispo;
mod clip;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod kl;
mod real;
mod sapo;
mod sequence;
mod term;

pub use real::Real;

use crate::device::{Argument, Device, placed};
use crate::dtype::DType;
use crate::error::{KernelError, check_range, check_shape};
use crate::tensor::Tensor;

const OP: &str = "grpo_loss";

/// The term that advantages enter, with `r` the ratio of the policy to the one that sampled and `A` the advantage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Surrogate {
    /// `-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A)`, with the dual clip for `A < 0`.
    #[default]
    Clip,
    /// `-sg(clip(r, 1 - clip_low, 1 + clip_high)) A logprob`.
    Cispo,
    /// `-sigmoid(tau (r - 1)) (4 / tau) A`.
    Sapo,
    /// `-A logprob`: no ratio.
    PolicyGradient,
}

/// How the divergence from the reference is measured at a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KlEstimator {
    /// `logprob - ref`.
    K1,
    /// `(ref - logprob)^2 / 2`.
    K2,
    /// `exp(ref - logprob) - (ref - logprob) - 1`.
    #[default]
    K3,
    /// The divergence over the whole vocabulary, computed by `linear_kl_forward` and given in place of the reference's
    /// log-probabilities; its gradient by it is `weight * kl_coef`, and not part of `d_logprobs`.
    Full,
}

/// Whose ratio a token has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RatioLevel {
    /// Its own.
    #[default]
    Token,
    /// That of its sequence: `exp(mean(logprob - old))` over the sequence's tokens of weight other than 0.
    Sequence,
}

/// The numbers of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct GrpoLossParams {
    /// The policy term.
    pub surrogate: Surrogate,
    /// The ratio is clipped below at `1 - clip_low`.
    pub clip_low: f64,
    /// The ratio is clipped above at `1 + clip_high`.
    pub clip_high: f64,
    /// For a negative advantage the clipped loss is at most `-dual_clip * advantage`.
    pub dual_clip: Option<f64>,
    /// Whose ratio a token has.
    pub ratio: RatioLevel,
    /// How the divergence from the reference is measured.
    pub kl: KlEstimator,
    /// Coefficient of that divergence.
    pub kl_coef: f64,
    /// Coefficient of the entropy bonus.
    pub entropy_coef: f64,
    /// Bound on |logprob - old| (or a sequence's mean of it) inside the exponential; no gradient flows beyond it.
    pub log_ratio_clamp: Option<f64>,
    /// Bound on |k3|; no gradient flows beyond it. The inner log-ratio is bounded by `log_ratio_clamp`.
    pub k3_clamp: Option<f64>,
    /// The policy term is multiplied by `min(exp(old - sampler), importance_truncation)`, which is not differentiated:
    /// truncated importance sampling, for a sampler whose log-probabilities are not quite those of the trainer.
    pub importance_truncation: Option<f64>,
}

/// The columns of the loss, each (N), in f32 or f64.
#[derive(Debug, Clone, Copy)]
pub struct GrpoLossInputs<'a, F: Real = f32> {
    /// Log-probabilities under the policy that is trained.
    pub logprobs: &'a Tensor<F>,
    /// Log-probabilities under the policy that sampled, as the trainer computes them.
    pub old_logprobs: &'a Tensor<F>,
    /// Log-probabilities that the sampler reported; read only with `importance_truncation`.
    pub sampler_logprobs: &'a Tensor<F>,
    /// Log-probabilities under the frozen reference, or the full divergence from it; not read if `kl_coef` is 0.
    pub ref_logprobs: &'a Tensor<F>,
    /// Entropy of the policy at each token.
    pub entropy: &'a Tensor<F>,
    /// Advantage of each token's turn.
    pub advantages: &'a Tensor<F>,
    /// Weight of each token in the total: its mask times what the aggregation gives it.
    pub weights: &'a Tensor<F>,
    /// The sequence of each token, any numbers in any order; read only with [`RatioLevel::Sequence`].
    pub sequences: &'a Tensor<u32>,
}

/// Sums over the tokens whose weight is not zero, in f64.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct GrpoLossSums {
    /// Weighted loss.
    pub loss: f64,
    /// Tokens counted.
    pub tokens: u64,
    /// Tokens whose gradient the upper clip stops (in CISPO: bounds).
    pub clipped_high: u64,
    /// Tokens whose gradient the lower clip (or the dual clip) stops.
    pub clipped_low: u64,
    /// Those of them that the dual clip stops.
    pub clipped_dual: u64,
    /// k3 of this policy against the one that sampled, `r - 1 - ln r`: how far the update has moved.
    pub approx_kl: f64,
    /// Divergence from the reference, as estimated.
    pub ref_kl: f64,
    /// Entropy.
    pub entropy: f64,
    /// Largest |logprob - old|.
    pub max_log_ratio: f64,
}

/// For each token `surrogate + kl_coef * kl - entropy_coef * entropy`; the total is the sum of `weight * loss`. A token
/// of weight 0 is masked: nothing of it is read.
///
/// - `d_logprobs`, `d_entropy`: (N), overwritten with the gradient of the total
///
/// On a CUDA device F is f32, and the sums are waited for; [`grpo_loss_into`] does not wait.
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::Placement`]; [`KernelError::Range`] for a negative clip or a clamp that is not
/// positive; [`KernelError::Unsupported`] for f64 on a CUDA device.
pub fn grpo_loss<F: Real>(
    d_logprobs: &mut Tensor<F>,
    d_entropy: &mut Tensor<F>,
    inputs: &GrpoLossInputs<'_, F>,
    params: &GrpoLossParams,
) -> Result<GrpoLossSums, KernelError> {
    match check(d_logprobs, d_entropy, inputs, params)? {
        Device::Cpu => Ok(cpu::loss(d_logprobs, d_entropy, inputs, params)),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            let mut sums = Tensor::zeros(&[GrpoLossSums::LEN], &Device::Cuda(device.clone()))?;
            cuda::loss(&device, d_logprobs, d_entropy, &mut sums, inputs, params)?;
            GrpoLossSums::from_tensor(&sums)
        }
    }
}

/// [`grpo_loss`] whose sums stay on the device: nothing is waited for. [`GrpoLossSums::from_tensor`] reads them.
///
/// - `sums`: (9) f64, overwritten
///
/// # Errors
/// As [`grpo_loss`].
pub fn grpo_loss_into<F: Real>(
    d_logprobs: &mut Tensor<F>,
    d_entropy: &mut Tensor<F>,
    sums: &mut Tensor<f64>,
    inputs: &GrpoLossInputs<'_, F>,
    params: &GrpoLossParams,
) -> Result<(), KernelError> {
    let device = check(d_logprobs, d_entropy, inputs, params)?;
    check_shape(OP, "sums", sums.shape(), &[GrpoLossSums::LEN])?;
    placed(OP, &[d_logprobs.is("d_logprobs", F::DTYPE), sums.is("sums", DType::F64)])?;
    match device {
        Device::Cpu => {
            let found = cpu::loss(d_logprobs, d_entropy, inputs, params);
            sums.copy_from_slice(&found.to_array())
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::loss(&device, d_logprobs, d_entropy, sums, inputs, params),
    }
}

impl GrpoLossSums {
    /// How many numbers [`grpo_loss_into`] writes.
    pub const LEN: usize = 9;

    /// Reads what [`grpo_loss_into`] wrote.
    ///
    /// # Errors
    /// [`KernelError::Shape`] unless there are [`GrpoLossSums::LEN`]; [`KernelError::Driver`].
    pub fn from_tensor(sums: &Tensor<f64>) -> Result<GrpoLossSums, KernelError> {
        GrpoLossSums::from_slice(&sums.to_vec()?)
    }

    /// As [`GrpoLossSums::from_tensor`], of numbers that were read already.
    ///
    /// # Errors
    /// [`KernelError::Shape`] unless there are [`GrpoLossSums::LEN`].
    pub fn from_slice(sums: &[f64]) -> Result<GrpoLossSums, KernelError> {
        check_shape(OP, "sums", &[sums.len()], &[GrpoLossSums::LEN])?;
        Ok(GrpoLossSums {
            loss: sums[0],
            tokens: sums[1] as u64,
            clipped_high: sums[2] as u64,
            clipped_low: sums[3] as u64,
            clipped_dual: sums[4] as u64,
            approx_kl: sums[5],
            ref_kl: sums[6],
            entropy: sums[7],
            max_log_ratio: sums[8],
        })
    }

    fn to_array(self) -> [f64; GrpoLossSums::LEN] {
        let counts = [self.tokens, self.clipped_high, self.clipped_low, self.clipped_dual];
        let [tokens, high, low, dual] = counts.map(|count| count as f64);
        [self.loss, tokens, high, low, dual, self.approx_kl, self.ref_kl, self.entropy, self.max_log_ratio]
    }
}

/// The device of all arguments that are used, whose shapes fit.
fn check<F: Real>(
    d_logprobs: &Tensor<F>,
    d_entropy: &Tensor<F>,
    inputs: &GrpoLossInputs<'_, F>,
    params: &GrpoLossParams,
) -> Result<Device, KernelError> {
    let shape = inputs.logprobs.shape().to_vec();
    let mut columns = vec![
        ("logprobs", inputs.logprobs),
        ("d_logprobs", d_logprobs),
        ("d_entropy", d_entropy),
        ("old_logprobs", inputs.old_logprobs),
        ("entropy", inputs.entropy),
        ("advantages", inputs.advantages),
        ("weights", inputs.weights),
    ];
    if params.kl_coef != 0.0 {
        columns.push(("ref_logprobs", inputs.ref_logprobs));
    }
    if params.importance_truncation.is_some() {
        columns.push(("sampler_logprobs", inputs.sampler_logprobs));
    }
    let mut arguments: Vec<Argument<'_>> = Vec::new();
    for (arg, column) in columns {
        check_shape(OP, arg, column.shape(), &shape)?;
        arguments.push(column.is(arg, F::DTYPE));
    }
    if params.ratio == RatioLevel::Sequence {
        check_shape(OP, "sequences", inputs.sequences.shape(), &shape)?;
        arguments.push(inputs.sequences.is("sequences", DType::U32));
    }
    for (arg, value) in [("clip_low", params.clip_low), ("clip_high", params.clip_high)] {
        check_range(value >= 0.0, OP, arg, value, ">= 0")?;
    }
    for (arg, clamp) in [
        ("log_ratio_clamp", params.log_ratio_clamp),
        ("k3_clamp", params.k3_clamp),
        ("importance_truncation", params.importance_truncation),
    ] {
        check_range(clamp.is_none_or(|bound| bound > 0.0), OP, arg, clamp.unwrap_or_default(), "> 0")?;
    }
    placed(OP, &arguments)
}
