//! Small models, trajectories, and comparisons.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_grpo::{TokenTrajectory, TokenTurn};
use reskill_kernels::{DType, Device, Tensor};
use reskill_model::{Lora, LoraConfig, ModelConfig, ReplyToken, Transformer};

pub(crate) fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// The device in f32.
pub(crate) fn device() -> Device {
    reskill_simt::device()
}

/// The device in bf16.
pub(crate) fn narrow() -> Device {
    device().with_precision(DType::Bf16).unwrap()
}

pub(crate) fn config() -> ModelConfig {
    ModelConfig {
        vocab_size: 17,
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 4,
        max_position_embeddings: 64,
        qk_norm: true,
        ..ModelConfig::tiny()
    }
}

pub(crate) fn model(seed: u64) -> Transformer {
    Transformer::init(&config(), &mut rng(seed)).unwrap()
}

/// The model with an adapter whose factors are all random.
pub(crate) fn adapted(seed: u64) -> Transformer {
    let (mut model, mut rng) = (model(seed), rng(seed + 1));
    let lora = LoraConfig { r: 2, lora_alpha: 4.0, ..LoraConfig::default() };
    let mut lora = Lora::init(&config(), &lora, &mut rng).unwrap();
    for tensor in lora.tensors_mut() {
        tensor.as_mut_slice().iter_mut().for_each(|x| *x = rng.random::<f32>() - 0.5);
    }
    model.attach(lora).unwrap();
    model
}

/// Turns with drawn, restricted and forced tokens, and log-probabilities some way off.
pub(crate) fn trajectories(n: usize, seed: u64) -> Vec<TokenTrajectory> {
    let mut rng = rng(seed);
    let mut ids = |n: usize| -> Vec<u32> { (0..n).map(|_| rng.random_range(0..17)).collect() };
    (0..n)
        .map(|index| {
            let turns = (0..1 + index % 3).map(|turn| {
                let reply = ids(1 + (index + turn) % 4).into_iter().enumerate().map(|(i, token)| {
                    let allowed = match i % 3 {
                        0 => vec![],
                        1 => vec![token, (token + 3) % 17, (token + 7) % 17],
                        _ => vec![token],
                    };
                    let drawn = -1.0 - 0.2 * ((token + 2 * i as u32) % 9) as f32;
                    let logprob = if allowed.len() == 1 { 0.0 } else { drawn };
                    ReplyToken { token, logprob, allowed }
                });
                let reply = reply.collect();
                TokenTurn { trunk: ids(index % 2 + turn), branch: ids(2 + turn), reply, invalid: false }
            });
            let turns = turns.collect();
            TokenTrajectory { group: index as u64 / 2, stratum: 0, turns, return_: (index % 2) as f32 }
        })
        .collect()
}

/// Advantages of both signs and sizes.
pub(crate) fn advantages(trajectories: &[TokenTrajectory]) -> Vec<Vec<f32>> {
    let of = |(i, trajectory): (usize, &TokenTrajectory)| {
        (0..trajectory.turns.len()).map(|turn| [1.3, -0.8, 0.4, -2.1][(i + 3 * turn) % 4]).collect()
    };
    trajectories.iter().enumerate().map(of).collect()
}

pub(crate) fn bits(x: &Tensor) -> Vec<u32> {
    x.to_vec().unwrap().iter().map(|x| x.to_bits()).collect()
}

/// The largest difference between two lists of tensors, relative to the largest value of each tensor wanted.
pub(crate) fn difference(got: &[&Tensor], want: &[&Tensor]) -> f64 {
    assert_eq!(got.len(), want.len());
    let mut largest = 0.0_f64;
    for (got, want) in got.iter().zip(want) {
        let (got, want) = (got.to_vec().unwrap(), want.to_vec().unwrap());
        let scale = want.iter().fold(1e-6_f64, |scale, x| scale.max(f64::from(x.abs())));
        for (got, want) in got.iter().zip(&want) {
            let off = f64::from((got - want).abs()) / scale;
            // `f64::max` would pass over a NaN.
            largest = if off.is_nan() || off > largest { off } else { largest };
        }
    }
    largest
}

/// The length of the difference, relative to that of what is wanted, both over all tensors.
pub(crate) fn distance(got: &[&Tensor], want: &[&Tensor]) -> f64 {
    assert_eq!(got.len(), want.len());
    let (mut off, mut whole) = (0.0, 0.0);
    for (got, want) in got.iter().zip(want) {
        for (got, want) in got.to_vec().unwrap().into_iter().zip(want.to_vec().unwrap()) {
            off += f64::from(got - want).powi(2);
            whole += f64::from(want).powi(2);
        }
    }
    (off / whole).sqrt()
}
