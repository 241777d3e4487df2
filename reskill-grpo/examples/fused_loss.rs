//! The fused GRPO loss on tensors of your own: hidden states and an output head go in, the loss and both gradients come out, and
//! no (N, V) array of logits exists in between. `cargo run --release -p reskill-grpo --example fused_loss`.
//!
//! Gradient descent on the head and on the hidden states raises the tokens of the reply with a positive advantage and lowers those
//! of the other, until the clip holds them.
#![expect(clippy::print_stdout, reason = "an example prints its result")]

use reskill_grpo::token_loss::{TokenLossConfig, TokenLossInputs, token_loss};
use reskill_grpo::{Aggregation, GrpoError, group_advantages};
use reskill_kernels::Tensor;
use reskill_kernels::ops::GrpoLossParams;

/// N tokens, C channels, V words; tokens 0 to 2 are one reply, 3 to 5 another to the same prompt.
const N: usize = 6;
const C: usize = 16;
const V: usize = 1000;

/// `count` numbers in -1..1 that look random and are the same every time.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mix =
        |i: usize| (i as u32 ^ seed).wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(668_265_263);
    (0..count).map(|i| mix(i) as f32 / u32::MAX as f32 * 2.0 - 1.0).collect()
}

fn descend(weights: &mut Tensor, gradient: &[f64], rate: f64) {
    for (weight, slope) in weights.as_mut_slice().iter_mut().zip(gradient) {
        *weight -= (rate * slope) as f32;
    }
}

fn main() -> Result<(), GrpoError> {
    let mut hidden = Tensor::from_vec(&[N, C], numbers(N * C, 1))?;
    let mut head = Tensor::from_vec(&[V, C], numbers(V * C, 2))?;
    let targets = Tensor::from_vec(&[N], vec![17, 256, 999, 17, 3, 42])?;
    let config = TokenLossConfig {
        params: GrpoLossParams { clip_low: 0.2, clip_high: 0.28, kl_coef: 0.0, ..GrpoLossParams::default() },
        aggregation: Aggregation::TokenMean,
        constant: 1.0,
        temperature: 1.0,
    };

    // The first reply reached the goal, the second did not; both are one group.
    let of_replies = group_advantages(&[1.0, 0.0], &[0, 0], &Default::default())?;
    let advantages: Vec<f64> = (0..N).map(|i| f64::from(of_replies[i / 3])).collect();
    let (mask, sequences) = ([true; N], [0, 0, 0, 1, 1, 1]);

    // What the policy that sampled gave them: here the weights before the first step.
    let mut old = vec![0.0; N];
    for step in 0..=8 {
        let inputs = TokenLossInputs {
            hidden: &hidden,
            head: &head,
            targets: &targets,
            old_logprobs: &old,
            ref_logprobs: &[0.0; N],
            advantages: &advantages,
            loss_mask: &mask,
            seq_ids: &sequences,
        };
        let result = token_loss(&inputs, &config)?;
        if step == 0 {
            old = result.logprobs.iter().map(|&logprob| f64::from(logprob)).collect();
            continue;
        }
        let ratios: Vec<f64> =
            result.logprobs.iter().zip(&old).map(|(&new, old)| (f64::from(new) - old).exp()).collect();
        println!("step {step}  loss {:+.4}  ratios {ratios:.3?}", result.loss);
        descend(&mut hidden, &result.d_hidden, 0.1);
        descend(&mut head, &result.d_head, 0.1);
    }
    Ok(())
}
