//! Widths of the layers that are measured.

use clap::ValueEnum;
use reskill_kernels::Device;

/// A model by its widths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Sizes {
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
pub(super) struct Model {
    /// Width C.
    pub(super) c: usize,
    /// Width F of the MLP.
    pub(super) f: usize,
    /// Query heads H.
    pub(super) heads: usize,
    /// Key-value heads K.
    pub(super) kv_heads: usize,
    /// Head size D.
    pub(super) head_dim: usize,
    /// Vocabulary V.
    pub(super) vocab: usize,
}

impl Sizes {
    pub(super) fn model(self) -> Model {
        let model = |c, f, heads, kv_heads, head_dim, vocab| Model { c, f, heads, kv_heads, head_dim, vocab };
        match self {
            Sizes::Tiny => model(40, 72, 4, 2, 16, 301),
            Sizes::Policy => model(96, 256, 4, 2, 32, 400),
            Sizes::SmolLm2 => model(576, 1536, 9, 3, 64, 49_152),
            Sizes::Qwen3 => model(1024, 3072, 16, 8, 128, 151_936),
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
