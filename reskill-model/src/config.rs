//! Sizes of a model. Field names are those of Hugging Face's `config.json`.

use reskill_kernels::ops::AttentionShape;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::rope_config::{RopeAngles, RopeScaling};

/// No size of a model is larger: a damaged file must not ask for memory that no machine has.
const LARGEST: usize = 1 << 24;
/// No model has more blocks.
const MOST_LAYERS: usize = 4096;

/// Sizes of a decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Size of the vocabulary V. 0 in a training configuration: set from the tokenizer that is built.
    pub vocab_size: usize,
    /// Width of the residual stream C.
    pub hidden_size: usize,
    /// Width of the MLP F.
    pub intermediate_size: usize,
    /// Number of blocks L.
    pub num_hidden_layers: usize,
    /// Query heads H.
    pub num_attention_heads: usize,
    /// Key-value heads K, a divisor of H.
    pub num_key_value_heads: usize,
    /// Elements per head D, even.
    pub head_dim: usize,
    /// Longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// Base of the rotary angles.
    pub rope_theta: f64,
    /// Added under the root of every RMSNorm.
    pub rms_norm_eps: f32,
    /// Whether the output head is the embedding table.
    pub tie_word_embeddings: bool,
    /// Whether query, key and value projections have a bias (Qwen2; Llama and Qwen3 with `attention_bias`).
    pub qkv_bias: bool,
    /// Whether the output projection of attention has a bias (Llama and Qwen3 with `attention_bias`).
    pub out_bias: bool,
    /// Whether the projections of the MLP have a bias (Llama with `mlp_bias`).
    pub mlp_bias: bool,
    /// Whether every query and key head is normalised before the rotation (Qwen3).
    pub qk_norm: bool,
    /// How rotary angles are rounded.
    pub rope_angles: RopeAngles,
    /// How rotary frequencies are scaled for a longer context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
}

impl ModelConfig {
    /// The sizes of the default run's policy, without a vocabulary.
    #[must_use]
    pub fn tiny() -> ModelConfig {
        ModelConfig {
            vocab_size: 0,
            hidden_size: 96,
            intermediate_size: 256,
            num_hidden_layers: 3,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 32,
            max_position_embeddings: 512,
            rope_theta: 10_000.0,
            rms_norm_eps: 1e-5,
            tie_word_embeddings: true,
            qkv_bias: false,
            out_bias: false,
            mlp_bias: false,
            qk_norm: false,
            rope_angles: RopeAngles::Exact,
            rope_scaling: None,
        }
    }

    /// Head counts and size, as attention takes them.
    #[must_use]
    pub fn attention_shape(&self) -> AttentionShape {
        AttentionShape {
            n_heads: self.num_attention_heads,
            n_kv_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
        }
    }

    /// Refuses sizes that no model can have.
    ///
    /// # Errors
    /// [`ModelError::Config`] names the first field at fault.
    pub fn validate(&self) -> Result<(), ModelError> {
        let positive = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (key, value) in positive {
            check(value > 0, key, value, "a positive number")?;
            check(value <= LARGEST, key, value, &format!("at most {LARGEST}"))?;
        }
        check(self.vocab_size <= LARGEST, "vocab_size", self.vocab_size, &format!("at most {LARGEST}"))?;
        check(
            self.num_hidden_layers <= MOST_LAYERS,
            "num_hidden_layers",
            self.num_hidden_layers,
            &format!("at most {MOST_LAYERS}"),
        )?;
        check(
            self.num_attention_heads.is_multiple_of(self.num_key_value_heads),
            "num_attention_heads",
            self.num_attention_heads,
            &format!("a multiple of num_key_value_heads = {}", self.num_key_value_heads),
        )?;
        check(self.head_dim.is_multiple_of(2), "head_dim", self.head_dim, "an even number")?;
        check(self.rope_theta > 0.0 && self.rope_theta.is_finite(), "rope_theta", self.rope_theta, "> 0")?;
        if let Some(scaling) = &self.rope_scaling {
            scaling.validate(self.head_dim)?;
        }
        check(
            self.rms_norm_eps >= 0.0 && self.rms_norm_eps.is_finite(),
            "rms_norm_eps",
            self.rms_norm_eps,
            ">= 0",
        )
    }
}

impl Default for ModelConfig {
    fn default() -> Self {
        ModelConfig::tiny()
    }
}

fn check(holds: bool, key: &'static str, value: impl ToString, expected: &str) -> Result<(), ModelError> {
    if holds {
        return Ok(());
    }
    Err(ModelError::Config { key, value: value.to_string(), expected: expected.to_string() })
}
