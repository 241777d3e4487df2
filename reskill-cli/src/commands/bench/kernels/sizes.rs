//! Widths of the layers that are measured.

use clap::ValueEnum;
use reskill_kernels::Device;
use reskill_kernels::ops::AttentionShape;
use reskill_model::ModelConfig;

/// A model by its widths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::commands::bench) enum Sizes {
    /// Odd and small, for a simulated device
    Tiny,
    /// The policy of the default run
    Policy,
    /// SmolLM2-135M
    #[value(name = "smollm2")]
    SmolLm2,
    /// Qwen3-0.6B
    #[value(name = "qwen3-0.6b")]
    Qwen3,
}

/// Widths of a model.
#[derive(Debug, Clone, Copy)]
pub(in crate::commands::bench) struct Model {
    /// Width C.
    pub(in crate::commands::bench) c: usize,
    /// Width F of the MLP.
    pub(in crate::commands::bench) f: usize,
    /// Query heads H.
    pub(in crate::commands::bench) heads: usize,
    /// Key-value heads K.
    pub(in crate::commands::bench) kv_heads: usize,
    /// Head size D.
    pub(in crate::commands::bench) head_dim: usize,
    /// Vocabulary V.
    pub(in crate::commands::bench) vocab: usize,
}

impl Model {
    /// Its heads.
    pub(super) fn attention(self) -> AttentionShape {
        AttentionShape { n_heads: self.heads, n_kv_heads: self.kv_heads, head_dim: self.head_dim }
    }
}

impl Sizes {
    pub(in crate::commands::bench) fn model(self) -> Model {
        let model = |c, f, heads, kv_heads, head_dim, vocab| Model { c, f, heads, kv_heads, head_dim, vocab };
        match self {
            Sizes::Tiny => model(40, 72, 4, 2, 16, 301),
            Sizes::Policy => model(96, 256, 4, 2, 32, 400),
            Sizes::SmolLm2 => model(576, 1536, 9, 3, 64, 49_152),
            Sizes::Qwen3 => model(1024, 3072, 16, 8, 128, 151_936),
        }
    }

    /// Layers of the model.
    pub(in crate::commands::bench) fn layers(self) -> usize {
        match self {
            Sizes::Tiny => 2,
            Sizes::Policy => 4,
            Sizes::SmolLm2 => 30,
            Sizes::Qwen3 => 28,
        }
    }

    /// The whole network, for sequences of at most `longest` tokens.
    pub(in crate::commands::bench) fn network(self, longest: usize) -> ModelConfig {
        let widths = self.model();
        ModelConfig {
            vocab_size: widths.vocab,
            hidden_size: widths.c,
            intermediate_size: widths.f,
            num_hidden_layers: self.layers(),
            num_attention_heads: widths.heads,
            num_key_value_heads: widths.kv_heads,
            head_dim: widths.head_dim,
            max_position_embeddings: longest,
            qk_norm: self == Sizes::Qwen3,
            ..ModelConfig::tiny()
        }
    }

    /// Rows that are measured where nothing else is asked for.
    pub(super) fn rows(self, device: &Device) -> usize {
        match self {
            Sizes::Tiny => 37,
            _ if device.is_cpu() => 512,
            _ => 16_384,
        }
    }
}
