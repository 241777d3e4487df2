//! The last two steps of a language model, by hand: normalise hidden states, then log-probabilities of given tokens
//! straight from them, and their gradients. `cargo run --release -p reskill-kernels --example rms_norm_logprob`.
#![expect(clippy::print_stdout, reason = "an example prints its result")]

use reskill_kernels::ops::{
    TokenSets, linear_logprob_backward, linear_logprob_forward, rms_norm_backward, rms_norm_forward,
};
use reskill_kernels::{Device, KernelError, Tensor};

fn main() -> Result<(), KernelError> {
    // N = 2 positions, C = 4 channels, V = 5 tokens.
    let zeros = |shape: &[usize]| Tensor::zeros(shape, &Device::Cpu);
    let x = Tensor::from_vec(&[2, 4], vec![1.0, 2.0, -1.0, 0.5, 0.0, 3.0, 1.0, -2.0])?;
    let weight = Tensor::from_vec(&[4], vec![1.0, 1.0, 0.5, 2.0])?;
    let head = Tensor::from_vec(&[5, 4], (0..20).map(|i| (i * 7 % 11) as f32 / 10.0 - 0.5).collect())?;
    let targets = Tensor::from_vec(&[2], vec![3, 1])?;
    // The first position allows every token, the second only tokens 1 and 4.
    let mut allowed = TokenSets::new();
    allowed.push(&[]);
    allowed.push(&[1, 4]);

    let (mut hidden, mut rstd) = (zeros(&[2, 4])?, zeros(&[2])?);
    rms_norm_forward(&mut hidden, &mut rstd, &x, &weight, 1e-5)?;
    let (mut logprobs, mut entropy, mut lse) = (zeros(&[2])?, zeros(&[2])?, zeros(&[2])?);
    linear_logprob_forward(&mut logprobs, &mut entropy, &mut lse, &hidden, &head, &targets, &allowed, 1.0)?;
    println!("log-probabilities {:.4?}", logprobs.as_slice());
    println!("entropies         {:.4?}", entropy.as_slice());

    // Gradient of the sum of both log-probabilities.
    let ones = Tensor::from_vec(&[2], vec![1.0, 1.0])?;
    let (mut d_hidden, mut d_head) = (zeros(&[2, 4])?, zeros(&[5, 4])?);
    linear_logprob_backward(
        &mut d_hidden,
        &mut d_head,
        &ones,
        &zeros(&[2])?,
        &entropy,
        &lse,
        &hidden,
        &head,
        &targets,
        &allowed,
        1.0,
    )?;
    let (mut d_x, mut d_weight) = (zeros(&[2, 4])?, zeros(&[4])?);
    rms_norm_backward(&mut d_x, &mut d_weight, &d_hidden, &x, &weight, &rstd)?;
    println!("gradient by x     {:.4?}", d_x.as_slice());
    println!("gradient by norm  {:.4?}", d_weight.as_slice());
    Ok(())
}
