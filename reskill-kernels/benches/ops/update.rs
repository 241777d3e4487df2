//! The loss, the gradient norm and the optimizer.

use reskill_kernels::ops::{self, AdamWParams, GrpoLossInputs, GrpoLossParams, Moments8, cost};
use reskill_kernels::{Device, KernelError, Tensor};

use crate::{Bench, random};

pub(crate) fn run(bench: &Bench) -> Result<(), KernelError> {
    loss(bench, 4096)?;
    for n in [400_000, 8_000_000] {
        optimizer(bench, n)?;
    }
    Ok(())
}

fn loss(bench: &Bench, n: usize) -> Result<(), KernelError> {
    let (a, b) = (random(&[n])?, random(&[n])?);
    let (mut d_logprobs, mut d_entropy) = (random(&[n])?, random(&[n])?);
    let inputs = GrpoLossInputs {
        logprobs: &a,
        old_logprobs: &b,
        ref_logprobs: &b,
        entropy: &a,
        advantages: &b,
        weights: &b,
        sampler_logprobs: &b,
        sequences: &Tensor::from_vec(&[n], vec![0; n])?,
    };
    let params = GrpoLossParams {
        clip_low: 0.2,
        clip_high: 0.2,
        dual_clip: Some(3.0),
        kl_coef: 0.01,
        entropy_coef: 0.01,
        ..GrpoLossParams::default()
    };
    bench.run("grpo_loss", &[("N", n)], cost::grpo_loss(n, 1), || {
        ops::grpo_loss(&mut d_logprobs, &mut d_entropy, &inputs, &params).map(drop)
    })
}

/// Of `n` weights.
fn optimizer(bench: &Bench, n: usize) -> Result<(), KernelError> {
    let (mut weight, mut m, mut v, grad) = (random(&[n])?, random(&[n])?, random(&[n])?, random(&[n])?);
    v.as_mut_slice().iter_mut().for_each(|v| *v *= *v);
    let params = AdamWParams {
        learning_rate: 1e-4,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.01,
        step: 10,
        grad_scale: 0.5,
    };
    let sizes = [("n", n)];
    // As the learner calls it: the factor on the gradient is in a tensor already.
    let scale = Tensor::from_vec(&[1], vec![params.grad_scale])?;
    bench.run("adamw", &sizes, cost::adamw(n), || {
        ops::adamw_scaled(&mut weight, None, (&mut m, &mut v), &grad, &scale, &params)
    })?;
    let mut moments = Moments8::zeros(n, &Device::Cpu)?;
    bench.run("adamw_8bit", &sizes, cost::adamw_8bit(n), || {
        ops::adamw_8bit_scaled(&mut weight, &mut moments, &grad, &scale, &params)
    })?;
    let mut total = 0.0;
    bench.run("sum_squares", &sizes, cost::sum_squares(n, 4), || {
        total += ops::sum_squares(&grad)?;
        Ok(())
    })?;
    assert!(total >= 0.0, "a sum of squares");
    Ok(())
}
