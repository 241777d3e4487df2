//! Small models on both sides, and comparisons.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_kernels::{DType, Device, Tensor};
use reskill_model::{Lora, LoraConfig, ModelConfig, Transformer};

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

fn config() -> ModelConfig {
    ModelConfig {
        vocab_size: 41,
        hidden_size: 24,
        intermediate_size: 40,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 8,
        max_position_embeddings: 160,
        ..ModelConfig::tiny()
    }
}

/// A tied Llama; an untied one with every bias; a Qwen3 with head norms and heads of 64, which tensor cores take.
pub(crate) fn families() -> Vec<ModelConfig> {
    vec![
        config(),
        ModelConfig {
            tie_word_embeddings: false,
            qkv_bias: true,
            out_bias: true,
            mlp_bias: true,
            head_dim: 6,
            ..config()
        },
        ModelConfig {
            qk_norm: true,
            head_dim: 64,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            ..config()
        },
    ]
}

/// Random weights, norms and biases included.
pub(crate) fn model(config: &ModelConfig, seed: u64) -> Transformer {
    let mut rng = rng(seed);
    let mut model = Transformer::init(config, &mut rng).unwrap();
    for tensor in model.params_mut().tensors_mut() {
        if tensor.shape().len() == 1 {
            tensor.as_mut_slice().iter_mut().for_each(|x| *x = 0.6 + 0.8 * rng.random::<f32>());
        }
    }
    model
}

/// An adapter whose factors are all random.
pub(crate) fn adapter(config: &ModelConfig) -> Lora {
    adapter_of_rank(3, config)
}

pub(crate) fn adapter_of_rank(r: usize, config: &ModelConfig) -> Lora {
    let mut rng = rng(9);
    let lora = LoraConfig { r, lora_alpha: 6.0, ..LoraConfig::default() };
    let mut lora = Lora::init(config, &lora, &mut rng).unwrap();
    for tensor in lora.tensors_mut() {
        tensor.as_mut_slice().iter_mut().for_each(|x| *x = 0.4 * (rng.random::<f32>() - 0.5));
    }
    lora
}

pub(crate) fn tokens(n: usize, seed: u64) -> Vec<u32> {
    let mut rng = rng(seed);
    (0..n).map(|_| rng.random_range(0..41)).collect()
}

/// The largest difference, relative to the largest value wanted.
pub(crate) fn difference(got: &Tensor, want: &Tensor) -> f64 {
    let (got, want) = (got.to_vec().unwrap(), want.to_vec().unwrap());
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold(1e-6_f64, |largest, x| largest.max(f64::from(x.abs())));
    // `f64::max` would pass over a NaN.
    let largest = got.iter().zip(&want).map(|(a, b)| f64::from((a - b).abs()));
    largest.fold(0.0, |largest, d| if d.is_nan() || d > largest { d } else { largest }) / scale
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

pub(crate) fn bits(x: &Tensor) -> Vec<u32> {
    x.to_vec().unwrap().iter().map(|x| x.to_bits()).collect()
}
