//! Log-probability and entropy of tokens straight from hidden states: the output projection, the softmax and the
//! gather in one operation. No (N, V) array is made: the vocabulary is walked in tiles of 1024 tokens, and the backward pass
//! holds the gradients of 8 tiles for 1024 rows, 32 MiB. `cargo run --release -p reskill-kernels --example
//! linear_logprob_memory` measures it.
//!
//! A policy may restrict a position to a set of allowed tokens (the tokens that can continue an admissible command);
//! the softmax then runs over that set alone, in sampling and in training alike.

pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod token_sets;

pub use token_sets::TokenSets;

use crate::device::{Device, placed};
use crate::dtype::DType;
use crate::error::{KernelError, check_range, check_shape};
use crate::tensor::Tensor;

/// `logprobs[n] = z[n, targets[n]] - lse[n]`, `entropy[n] = -sum_v p[n, v] log p[n, v]`, with
/// `z[n, v] = hidden[n] . head[v] / temperature` over the tokens `v` allowed in row `n`.
///
/// | argument | shape | dtype | direction |
/// |---|---|---|---|
/// | `logprobs` | (N) | f32 | out |
/// | `entropy` | (N) | f32 | out |
/// | `lse` | (N) | f32 | out, kept for the backward pass |
/// | `hidden` | (N, C) | T | in |
/// | `head` | (V, C) | T | in |
/// | `targets` | (N) | u32 | in, each allowed in its row |
/// | `allowed` | N sets | | in |
///
/// T is f32, or bf16 on a CUDA device.
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::DType`], [`KernelError::Placement`]; [`KernelError::Range`] for a token outside
/// the vocabulary or its set, or a temperature that is not positive. On a CUDA device targets are not looked at before:
/// one that is not allowed gets NaN.
#[expect(clippy::too_many_arguments, reason = "the arguments of a kernel")]
pub fn linear_logprob_forward(
    logprobs: &mut Tensor,
    entropy: &mut Tensor,
    lse: &mut Tensor,
    hidden: &Tensor,
    head: &Tensor,
    targets: &Tensor<u32>,
    allowed: &TokenSets,
    temperature: f32,
) -> Result<(), KernelError> {
    const OP: &str = "linear_logprob_forward";
    check_inputs(OP, hidden, head, allowed, temperature)?;
    check_targets(OP, targets, hidden.rows(), head.rows(), allowed)?;
    let t = hidden.dtype();
    let arguments = [
        hidden.is("hidden", t),
        head.is("head", t),
        targets.is("targets", DType::U32),
        logprobs.is("logprobs", DType::F32),
        entropy.is("entropy", DType::F32),
        lse.is("lse", DType::F32),
    ];
    let place = placed(OP, &arguments)?;
    for (arg, column) in [("logprobs", &*logprobs), ("entropy", &*entropy), ("lse", &*lse)] {
        check_shape(OP, arg, column.shape(), &[hidden.rows()])?;
    }
    match place {
        Device::Cpu => {
            let problem = cpu::Problem { hidden, head, allowed, temperature };
            cpu::forward::forward(logprobs, entropy, lse, &problem, targets);
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            let problem = cuda::Problem { device: &device, op: OP, hidden, head, temperature };
            cuda::forward(logprobs, entropy, lse, &problem, &*allowed.on(&device)?, targets)?;
        }
    }
    Ok(())
}

/// Gradients of [`linear_logprob_forward`].
///
/// `d_z[n, v] = d_logprobs[n] ([v = targets[n]] - p[n, v]) - d_entropy[n] p[n, v] (log p[n, v] + entropy[n])`.
///
/// | argument | shape | dtype | direction |
/// |---|---|---|---|
/// | `d_hidden` | (N, C) | T | out |
/// | `d_head` | (V, C) | f32 | added to; `None` for a frozen head: not computed |
/// | `d_logprobs`, `d_entropy` | (N) | f32 | in |
/// | `entropy`, `lse` | (N) | f32 | in, from the forward pass |
/// | the rest | | | as in the forward pass |
///
/// # Errors
/// As [`linear_logprob_forward`].
#[expect(clippy::too_many_arguments, reason = "the arguments of a kernel")]
pub fn linear_logprob_backward<'h>(
    d_hidden: &mut Tensor,
    d_head: impl Into<Option<&'h mut Tensor>>,
    d_logprobs: &Tensor,
    d_entropy: &Tensor,
    entropy: &Tensor,
    lse: &Tensor,
    hidden: &Tensor,
    head: &Tensor,
    targets: &Tensor<u32>,
    allowed: &TokenSets,
    temperature: f32,
) -> Result<(), KernelError> {
    let inputs = Backward {
        upstream: Upstream { d_logprobs, d_entropy, entropy, lse },
        hidden,
        head,
        targets,
        allowed,
        temperature,
    };
    inputs.run("linear_logprob_backward", d_hidden, d_head.into(), None)
}

/// [`linear_logprob_backward`] without what hardly counts: the vocabulary is cut into tiles of 256 tokens, the rows into
/// blocks of 128 (of those that follow each other without a set), and a block is skipped where no row gives any token of
/// the tile a probability of `filter` or more and no target lies in the tile. Trained policies put nearly all their mass
/// on few tokens, so most products fall away; the logits are still computed.
///
/// The error: let `m` be the probability that row `n` gives to skipped tokens, at most `min(1, V filter)`. The row's
/// gradient by the logits is off by at most `m (|d_logprobs| + |d_entropy| (|ln p| + entropy))` in total, `d_hidden` by
/// that times the longest row of `head` over the temperature. Unlike the exact mode a row depends on those of its block.
///
/// # Errors
/// As [`linear_logprob_forward`]; [`KernelError::Range`] for a `filter` outside (0, 1).
#[expect(clippy::too_many_arguments, reason = "the arguments of a kernel")]
pub fn linear_logprob_backward_filtered<'h>(
    d_hidden: &mut Tensor,
    d_head: impl Into<Option<&'h mut Tensor>>,
    d_logprobs: &Tensor,
    d_entropy: &Tensor,
    entropy: &Tensor,
    lse: &Tensor,
    hidden: &Tensor,
    head: &Tensor,
    targets: &Tensor<u32>,
    allowed: &TokenSets,
    temperature: f32,
    filter: f32,
) -> Result<(), KernelError> {
    const OP: &str = "linear_logprob_backward_filtered";
    check_range(filter > 0.0 && filter < 1.0, OP, "filter", filter, "a number in (0, 1)")?;
    let inputs = Backward {
        upstream: Upstream { d_logprobs, d_entropy, entropy, lse },
        hidden,
        head,
        targets,
        allowed,
        temperature,
    };
    inputs.run(OP, d_hidden, d_head.into(), Some(filter))
}

/// Gradients from above and values kept from the forward pass, each (N) f32.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upstream<'a> {
    pub(crate) d_logprobs: &'a Tensor,
    pub(crate) d_entropy: &'a Tensor,
    pub(crate) entropy: &'a Tensor,
    pub(crate) lse: &'a Tensor,
}

/// The inputs of the backward pass.
struct Backward<'a> {
    upstream: Upstream<'a>,
    hidden: &'a Tensor,
    head: &'a Tensor,
    targets: &'a Tensor<u32>,
    allowed: &'a TokenSets,
    temperature: f32,
}

impl Backward<'_> {
    fn run(
        &self,
        op: &'static str,
        d_hidden: &mut Tensor,
        d_head: Option<&mut Tensor>,
        filter: Option<f32>,
    ) -> Result<(), KernelError> {
        let &Backward { upstream, hidden, head, targets, allowed, temperature } = self;
        match self.check(op, d_hidden, d_head.as_deref())? {
            Device::Cpu => {
                let problem = cpu::Problem { hidden, head, allowed, temperature };
                let upstream = cpu::backward::Upstream {
                    d_logprobs: upstream.d_logprobs.as_slice(),
                    d_entropy: upstream.d_entropy.as_slice(),
                    entropy: upstream.entropy.as_slice(),
                    lse: upstream.lse.as_slice(),
                };
                let targets = targets.as_slice();
                let gradient =
                    cpu::backward::LogprobGradient { problem: &problem, upstream, targets, filter };
                cpu::backward::backward(d_hidden, d_head, &problem, &gradient, false);
            }
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => {
                let problem = cuda::Problem { device: &device, op, hidden, head, temperature };
                let rows = allowed.on(&device)?;
                cuda::backward(d_hidden, d_head, &problem, &rows, &upstream, targets, filter)?;
            }
        }
        Ok(())
    }

    /// The device of all arguments, whose shapes and types fit.
    fn check(
        &self,
        op: &'static str,
        d_hidden: &Tensor,
        d_head: Option<&Tensor>,
    ) -> Result<Device, KernelError> {
        let &Backward { upstream, hidden, head, targets, allowed, temperature } = self;
        check_inputs(op, hidden, head, allowed, temperature)?;
        check_targets(op, targets, hidden.rows(), head.rows(), allowed)?;
        check_shape(op, "d_hidden", d_hidden.shape(), hidden.shape())?;
        let t = hidden.dtype();
        let mut arguments = vec![
            hidden.is("hidden", t),
            head.is("head", t),
            d_hidden.is("d_hidden", t),
            targets.is("targets", DType::U32),
        ];
        if let Some(d_head) = d_head {
            check_shape(op, "d_head", d_head.shape(), head.shape())?;
            arguments.push(d_head.is("d_head", DType::F32));
        }
        let Upstream { d_logprobs, d_entropy, entropy, lse } = upstream;
        for (arg, column) in
            [("d_logprobs", d_logprobs), ("d_entropy", d_entropy), ("entropy", entropy), ("lse", lse)]
        {
            check_shape(op, arg, column.shape(), &[hidden.rows()])?;
            arguments.push(column.is(arg, DType::F32));
        }
        placed(op, &arguments)
    }
}

pub(crate) fn check_inputs(
    op: &'static str,
    hidden: &Tensor,
    head: &Tensor,
    allowed: &TokenSets,
    temperature: f32,
) -> Result<(), KernelError> {
    check_shape(op, "head", head.shape(), &[head.rows(), hidden.row_len()])?;
    check_range(head.rows() > 0, op, "head.rows()", head.rows(), ">= 1")?;
    check_range(head.row_len() > 0, op, "head.row_len()", head.row_len(), ">= 1")?;
    check_range(allowed.rows() == hidden.rows(), op, "allowed.rows()", allowed.rows(), hidden.rows())?;
    check_range(temperature > 0.0, op, "temperature", temperature, "> 0")?;
    let vocab_size = head.rows();
    match allowed.ids().iter().find(|&&token| token as usize >= vocab_size) {
        Some(token) => check_range(false, op, "allowed", token, format!("< {vocab_size}")),
        None => Ok(()),
    }
}

fn check_targets(
    op: &'static str,
    targets: &Tensor<u32>,
    n: usize,
    vocab_size: usize,
    allowed: &TokenSets,
) -> Result<(), KernelError> {
    check_shape(op, "targets", targets.shape(), &[n])?;
    if !targets.place().is_cpu() {
        return Ok(());
    }
    for (row, &target) in targets.as_slice().iter().enumerate() {
        let set = allowed.row(row);
        let inside = if set.is_empty() { (target as usize) < vocab_size } else { set.contains(&target) };
        check_range(inside, op, "targets", target, format_args!("a token allowed in row {row}"))?;
    }
    Ok(())
}
