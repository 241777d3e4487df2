//! Output head: log-probabilities over the vocabulary and over sets, the divergence, drawing a token.

use reskill_kernels::ops::{self, Distribution, TokenSets, cost};
use reskill_kernels::{Device, KernelError, Tensor};

use crate::{Bench, random, tokens};

pub(crate) fn run(bench: &Bench) -> Result<(), KernelError> {
    for (n, c, vocab, set_len) in
        [(512, 96, 400, 8), (512, 96, 400, 0), (256, 576, 49_152, 0), (8, 576, 49_152, 0)]
    {
        logprobs(bench, n, c, vocab, set_len)?;
    }
    for (n, c, vocab) in [(512, 96, 400), (256, 576, 49_152)] {
        divergence(bench, n, c, vocab)?;
    }
    Ok(())
}

/// Sets of `set_len` tokens; the whole vocabulary for 0.
fn sets(n: usize, vocab: usize, set_len: usize) -> TokenSets {
    let mut allowed = TokenSets::new();
    for row in 0..n {
        let set: Vec<u32> = (0..set_len).map(|i| ((row * 31 + i) % vocab) as u32).collect();
        allowed.push(&set);
    }
    allowed
}

fn logprobs(bench: &Bench, n: usize, c: usize, vocab: usize, set_len: usize) -> Result<(), KernelError> {
    let (hidden, head, allowed) = (random(&[n, c])?, random(&[vocab, c])?, sets(n, vocab, set_len));
    let targets = tokens(n, vocab)?;
    let column = || Tensor::zeros(&[n], &Device::Cpu);
    let (mut logprobs, mut entropy, mut lse) = (column()?, column()?, column()?);
    let (entries, distinct) = (n * set_len, vocab.min(n * 31 + set_len));
    let (sizes, forward, backward) = match set_len {
        0 => (
            vec![("N", n), ("C", c), ("V", vocab)],
            cost::linear_logprob_forward(n, c, vocab, 4),
            Some(cost::linear_logprob_backward(n, c, vocab, 4)),
        ),
        _ => (
            vec![("N", n), ("C", c), ("V", vocab), ("set", set_len)],
            cost::linear_logprob_sets_forward(n, c, entries, distinct, 4),
            None,
        ),
    };
    bench.run("linear_logprob_forward", &sizes, forward, || {
        ops::linear_logprob_forward(
            &mut logprobs,
            &mut entropy,
            &mut lse,
            &hidden,
            &head,
            &targets,
            &allowed,
            1.0,
        )
    })?;
    let (mut d_hidden, mut d_head, d_column) = (random(&[n, c])?, random(&[vocab, c])?, random(&[n])?);
    if let Some(backward) = backward {
        bench.run("linear_logprob_backward", &sizes, backward, || {
            ops::linear_logprob_backward(
                &mut d_hidden,
                &mut d_head,
                &d_column,
                &d_column,
                &entropy,
                &lse,
                &hidden,
                &head,
                &targets,
                &allowed,
                1.0,
            )
        })?;
        let (mut drawn, uniforms) = (tokens(n, vocab)?, column()?);
        bench.run("linear_sample", &sizes, cost::linear_sample(n, c, vocab, 4), || {
            ops::linear_sample(&mut drawn, &mut logprobs, &hidden, &head, &allowed, 1.0, &uniforms)
        })?;
    }
    Ok(())
}

fn divergence(bench: &Bench, n: usize, c: usize, vocab: usize) -> Result<(), KernelError> {
    let (hidden, head, ref_head) = (random(&[n, c])?, random(&[vocab, c])?, random(&[vocab, c])?);
    let (allowed, targets) = (sets(n, vocab, 0), tokens(n, vocab)?);
    let column = || Tensor::zeros(&[n], &Device::Cpu);
    let (mut logprobs, mut entropy, mut lse, mut ref_lse) = (column()?, column()?, column()?, column()?);
    for (lse, head) in [(&mut lse, &head), (&mut ref_lse, &ref_head)] {
        let (out, t) = (&mut logprobs, 1.0);
        ops::linear_logprob_forward(out, &mut entropy, lse, &hidden, head, &targets, &allowed, t)?;
    }
    let policy = Distribution { hidden: &hidden, head: &head, lse: &lse };
    let reference = Distribution { hidden: &hidden, head: &ref_head, lse: &ref_lse };
    let sizes = [("N", n), ("C", c), ("V", vocab)];
    let (mut kl, d_kl) = (column()?, random(&[n])?);
    bench.run("linear_kl_forward", &sizes, cost::linear_kl_forward(n, c, c, vocab, 4), || {
        ops::linear_kl_forward(&mut kl, policy, reference, &allowed, 1.0)
    })?;
    let (mut d_hidden, mut d_head) = (random(&[n, c])?, random(&[vocab, c])?);
    bench.run("linear_kl_backward", &sizes, cost::linear_kl_backward(n, c, c, vocab, 4), || {
        ops::linear_kl_backward(&mut d_hidden, &mut d_head, &d_kl, &kl, policy, reference, &allowed, 1.0)
    })
}
