//! Memory and time of the fused log-probability at the size of a real model: `cargo run --release -p reskill-kernels
//! --example linear_logprob_memory`.
//!
//! 4,096 tokens, 151,936 tokens of vocabulary, 1,024 wide; all logits would be 2.3 GiB. Prints one JSON line a pass: the
//! bytes taken at most beyond inputs and outputs, seconds, and GFLOP/s of its products. Takes 1.3 GiB for inputs and
//! gradients. `-- N V C` measures other sizes.
#![expect(clippy::print_stdout, reason = "an example prints its result")]

#[path = "../tests/counting/mod.rs"]
mod counting;

use std::time::Instant;

use reskill_kernels::ops::{
    TokenSets, linear_logprob_backward, linear_logprob_backward_filtered, linear_logprob_forward,
};
use reskill_kernels::{Device, KernelError, Tensor};

use counting::peak_of;

/// Numbers within -0.5..0.5 that look random.
fn filled(shape: &[usize]) -> Result<Tensor, KernelError> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from((state >> 16) as u16) / 65_536.0 - 0.5
    };
    Tensor::from_vec(shape, (0..shape.iter().product()).map(|_| next()).collect())
}

fn report(pass: &str, n_products: usize, (n, vocab, c): (usize, usize, usize), work: impl FnOnce()) {
    let start = Instant::now();
    let peak = peak_of(work);
    let seconds = start.elapsed().as_secs_f64();
    let flop = 2.0 * (n * vocab * c * n_products) as f64;
    println!(
        "{{\"pass\":\"{pass}\",\"n\":{n},\"vocab\":{vocab},\"c\":{c},\"peak_mib\":{:.1},\"seconds\":{seconds:.2},\
         \"gflop_per_s\":{:.0}}}",
        peak as f64 / f64::from(1 << 20),
        flop / seconds / 1e9
    );
}

fn main() -> Result<(), KernelError> {
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let (n, vocab, c) = if let [n, vocab, c] = sizes[..] { (n, vocab, c) } else { (4096, 151_936, 1024) };
    let (hidden, head) = (filled(&[n, c])?, filled(&[vocab, c])?);
    let targets = Tensor::from_vec(&[n], (0..n).map(|row| (row * 31 % vocab) as u32).collect())?;
    let mut allowed = TokenSets::new();
    (0..n).for_each(|_| allowed.push(&[]));
    let column = || Tensor::zeros(&[n], &Device::Cpu);
    let (mut logprobs, mut entropy, mut lse) = (column()?, column()?, column()?);
    let (d_logprobs, d_entropy) = (filled(&[n])?, filled(&[n])?);
    let mut d_hidden = Tensor::zeros(&[n, c], &Device::Cpu)?;
    let mut d_head = Tensor::zeros(&[vocab, c], &Device::Cpu)?;
    let mut result = Ok(());
    report("forward", 1, (n, vocab, c), || {
        result = linear_logprob_forward(
            &mut logprobs,
            &mut entropy,
            &mut lse,
            &hidden,
            &head,
            &targets,
            &allowed,
            1.0,
        );
    });
    result?;
    let mut result = Ok(());
    report("backward", 3, (n, vocab, c), || {
        result = linear_logprob_backward(
            &mut d_hidden,
            &mut d_head,
            &d_logprobs,
            &d_entropy,
            &entropy,
            &lse,
            &hidden,
            &head,
            &targets,
            &allowed,
            1.0,
        );
    });
    result?;
    let mut result = Ok(());
    report("backward, filter 1e-7", 3, (n, vocab, c), || {
        result = linear_logprob_backward_filtered(
            &mut d_hidden,
            &mut d_head,
            &d_logprobs,
            &d_entropy,
            &entropy,
            &lse,
            &hidden,
            &head,
            &targets,
            &allowed,
            1.0,
            1e-7,
        );
    });
    result
}
