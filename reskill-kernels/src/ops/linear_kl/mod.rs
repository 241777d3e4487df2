//! The full Kullback-Leibler divergence of the policy from a reference, over the whole vocabulary of each row (or its
//! allowed set), straight from hidden states and without an (N, V) array.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use crate::device::{Argument, Device, placed};
use crate::dtype::DType;
use crate::error::{KernelError, check_shape};
use crate::ops::linear_logprob::cpu::Problem;
use crate::ops::linear_logprob::{TokenSets, check_inputs};
use crate::tensor::Tensor;

/// One of the two distributions: hidden states, head, and the log-sum-exp that `linear_logprob_forward` kept.
#[derive(Debug, Clone, Copy)]
pub struct Distribution<'a> {
    /// (N, C) T: f32, or bf16 on a CUDA device.
    pub hidden: &'a Tensor,
    /// (V, C) T.
    pub head: &'a Tensor,
    /// (N) f32.
    pub lse: &'a Tensor,
}

/// `kl[n] = sum_v p[n, v] (log p[n, v] - log q[n, v])`, with `p` of the policy and `q` of the reference, both at
/// `temperature` and over the tokens allowed in row `n`. The widths C of the two may differ.
///
/// - `kl`: (N) f32, out
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::Range`].
pub fn linear_kl_forward(
    kl: &mut Tensor,
    policy: Distribution<'_>,
    reference: Distribution<'_>,
    allowed: &TokenSets,
    temperature: f32,
) -> Result<(), KernelError> {
    const OP: &str = "linear_kl_forward";
    let mut arguments = check(OP, policy, reference, allowed, temperature)?;
    check_shape(OP, "kl", kl.shape(), &[policy.hidden.rows()])?;
    arguments.push(kl.is("kl", DType::F32));
    match placed(OP, &arguments)? {
        Device::Cpu => pair(policy, reference, allowed, temperature).forward(kl.as_mut_slice()),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            cuda::Pair::new(&device, OP, policy, reference, allowed, temperature)?.forward(kl)?
        }
    }
    Ok(())
}

/// Gradients of [`linear_kl_forward`] by the policy: `d_z[n, v] = d_kl[n] p[n, v] (log p[n, v] - log q[n, v] - kl[n])`.
/// The reference is frozen.
///
/// - `d_hidden`: (N, C) T, added to
/// - `d_head`: (V, C) f32, added to; `None` for a frozen head: not computed
/// - `d_kl`: (N) f32
/// - `kl`: (N) f32, from the forward pass
///
/// # Errors
/// As [`linear_kl_forward`].
#[expect(clippy::too_many_arguments, reason = "the arguments of a kernel")]
pub fn linear_kl_backward<'h>(
    d_hidden: &mut Tensor,
    d_head: impl Into<Option<&'h mut Tensor>>,
    d_kl: &Tensor,
    kl: &Tensor,
    policy: Distribution<'_>,
    reference: Distribution<'_>,
    allowed: &TokenSets,
    temperature: f32,
) -> Result<(), KernelError> {
    const OP: &str = "linear_kl_backward";
    let mut arguments = check(OP, policy, reference, allowed, temperature)?;
    check_shape(OP, "d_hidden", d_hidden.shape(), policy.hidden.shape())?;
    let d_head = d_head.into();
    if let Some(d_head) = &d_head {
        check_shape(OP, "d_head", d_head.shape(), policy.head.shape())?;
    }
    check_shape(OP, "d_kl", d_kl.shape(), &[policy.hidden.rows()])?;
    check_shape(OP, "kl", kl.shape(), &[policy.hidden.rows()])?;
    arguments.extend([
        d_hidden.is("d_hidden", policy.hidden.dtype()),
        d_kl.is("d_kl", DType::F32),
        kl.is("kl", DType::F32),
    ]);
    arguments.extend(d_head.as_ref().map(|d_head| d_head.is("d_head", DType::F32)));
    match placed(OP, &arguments)? {
        Device::Cpu => {
            let pair = pair(policy, reference, allowed, temperature);
            pair.backward(d_hidden, d_head, d_kl.as_slice(), kl.as_slice());
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            let pair = cuda::Pair::new(&device, OP, policy, reference, allowed, temperature)?;
            pair.backward(d_hidden, d_head, d_kl, kl)?;
        }
    }
    Ok(())
}

fn pair<'a>(
    policy: Distribution<'a>,
    reference: Distribution<'a>,
    allowed: &'a TokenSets,
    temperature: f32,
) -> cpu::Pair<'a> {
    let problem = |of: Distribution<'a>| Problem { hidden: of.hidden, head: of.head, allowed, temperature };
    cpu::Pair {
        policy: problem(policy),
        reference: problem(reference),
        lse: policy.lse.as_slice(),
        ref_lse: reference.lse.as_slice(),
    }
}

/// The inputs as arguments, once their shapes are found to fit.
fn check<'a>(
    op: &'static str,
    policy: Distribution<'a>,
    reference: Distribution<'a>,
    allowed: &TokenSets,
    temperature: f32,
) -> Result<Vec<Argument<'a>>, KernelError> {
    check_inputs(op, policy.hidden, policy.head, allowed, temperature)?;
    check_inputs(op, reference.hidden, reference.head, allowed, temperature)?;
    let n = policy.hidden.rows();
    check_shape(op, "reference.hidden", &reference.hidden.shape()[..1], &[n])?;
    check_shape(op, "reference.head", &reference.head.shape()[..1], &[policy.head.rows()])?;
    check_shape(op, "lse", policy.lse.shape(), &[n])?;
    check_shape(op, "reference.lse", reference.lse.shape(), &[n])?;
    let t = policy.hidden.dtype();
    Ok(vec![
        policy.hidden.is("hidden", t),
        policy.head.is("head", t),
        policy.lse.is("lse", DType::F32),
        reference.hidden.is("reference.hidden", t),
        reference.head.is("reference.head", t),
        reference.lse.is("reference.lse", DType::F32),
    ])
}
