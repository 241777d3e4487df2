//! Small models and random tokens.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_model::{ModelConfig, RopeAngles, RopeScaling, Transformer};

/// Two blocks, four query heads over two key-value heads, sizes that are no multiples of a vector.
pub(crate) fn config(tied: bool) -> ModelConfig {
    ModelConfig {
        vocab_size: 23,
        hidden_size: 20,
        intermediate_size: 28,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 6,
        max_position_embeddings: 64,
        rope_theta: 100.0,
        tie_word_embeddings: tied,
        ..ModelConfig::tiny()
    }
}

/// Every architecture: Llama tied and untied, with all biases and stretched positions; Qwen2; Qwen3 with and without
/// biases.
pub(crate) fn families() -> Vec<ModelConfig> {
    let linear = Some(RopeScaling::Linear { factor: 2.0 });
    let angles = RopeAngles::F32;
    vec![
        config(true),
        config(false),
        ModelConfig {
            qkv_bias: true,
            out_bias: true,
            mlp_bias: true,
            rope_scaling: linear,
            rope_angles: angles,
            ..config(true)
        },
        ModelConfig { qkv_bias: true, ..config(true) },
        ModelConfig { qk_norm: true, head_dim: 8, ..config(false) },
        ModelConfig { qk_norm: true, qkv_bias: true, out_bias: true, rope_angles: angles, ..config(true) },
    ]
}

pub(crate) fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Random weights, norms included.
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

pub(crate) fn tokens(n: usize, vocab_size: usize, seed: u64) -> Vec<u32> {
    let mut rng = rng(seed);
    (0..n).map(|_| rng.random_range(0..vocab_size as u32)).collect()
}

pub(crate) fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}
