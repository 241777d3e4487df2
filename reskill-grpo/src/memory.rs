//! What training will take of memory, before it takes it.

use std::fmt;

use reskill_kernels::ops::Moments8;
use reskill_model::{LoraConfig, ModelConfig, WeightStorage};

use crate::error::GrpoError;
use crate::learner::LearnerConfig;
use crate::moments::MomentPrecision;

/// What is planned.
#[derive(Debug, Clone)]
pub struct MemoryRequest<'a> {
    /// Sizes of the policy, with its vocabulary.
    pub model: &'a ModelConfig,
    /// The learner: `max_tokens` are run at once.
    pub learner: &'a LearnerConfig,
    /// How the moments are kept.
    pub moments: MomentPrecision,
    /// Whether a frozen copy of the policy is kept. An adapter's reference is not a copy.
    pub has_reference: bool,
    /// The adapter that is trained, if it is not all weights.
    pub lora: Option<&'a LoraConfig>,
    /// Whether the backward pass computes activations again.
    pub recompute: bool,
    /// Panels of the projections for generation, if there are any.
    pub panels: Option<WeightStorage>,
    /// Episodes that are played at once.
    pub slots: usize,
    /// Longest context of one of them, in tokens: a trajectory that is longer than `max_tokens` is run alone.
    pub context: usize,
}

/// Bytes by purpose. Tokenizer, environments and the program itself are not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Parameters of the policy.
    pub weights: u64,
    /// The same once more in panels, for generation.
    pub panels: u64,
    /// Gradients of what is trained.
    pub gradients: u64,
    /// Moments of AdamW.
    pub optimizer: u64,
    /// The frozen copy.
    pub reference: u64,
    /// Keys and values of the rollouts.
    pub kv_cache: u64,
    /// What the backward pass needs of the forward pass, and scratch.
    pub activations: u64,
    /// The bytes of a checkpoint's largest file, which are put together before they are written.
    pub saving: u64,
}

/// Bytes of an f32.
const F32: u64 = 4;
/// The fused log-probability: eight tiles of 1024 tokens for 1024 rows.
const FUSED_ROWS: u64 = 1024;
const FUSED_TOKENS: u64 = 8 * 1024;

impl MemoryPlan {
    /// Adds up a request.
    #[must_use]
    pub fn new(request: &MemoryRequest<'_>) -> MemoryPlan {
        let model = request.model;
        let wide = |x: usize| x as u64;
        let tensors = tensor_sizes(model);
        let parameters: u64 = tensors.iter().map(|&n| wide(n)).sum();
        let trained = match request.lora {
            None => tensors,
            Some(lora) => lora.factor_sizes(model),
        };
        let n_trained: u64 = trained.iter().map(|&n| wide(n)).sum();
        let panels = match request.panels {
            None => 0,
            Some(WeightStorage::F32) => F32 * parameters,
            Some(WeightStorage::Bf16) => F32 / 2 * parameters,
        };
        let moments = |n: usize| match request.moments {
            MomentPrecision::EightBit if n >= 4096 => wide(Moments8::bytes(n)),
            _ => 2 * F32 * wide(n),
        };
        let attention = model.attention_shape();
        let (c, f, layers) =
            (wide(model.hidden_size), wide(model.intermediate_size), wide(model.num_hidden_layers));
        let (qkv, out, kv) =
            (wide(attention.qkv_width()), wide(attention.out_width()), wide(attention.kv_width()));
        // Floats a packed token: per block the residual twice, both norms, projections, attention, MLP, three
        // statistics; once the last residual and norm with its statistic, and the gradients that walk backwards, with
        // that of the hidden states.
        let per_block = 4 * c + qkv + out + 3 * f + 2 + wide(attention.n_heads);
        let once = 2 * c + 1 + 3 * c + qkv + out + 3 * f;
        // Recomputing keeps one block, and of each the residual stream before it.
        let kept = if request.recompute { layers * c + per_block } else { layers * per_block };
        let tokens = wide(request.learner.max_tokens.max(request.context));
        let rows = tokens.min(FUSED_ROWS);
        let fused = rows * wide(model.vocab_size).min(FUSED_TOKENS);
        let cached = wide(request.slots) * wide(request.context.next_multiple_of(16));
        MemoryPlan {
            weights: F32 * parameters,
            panels,
            gradients: F32 * n_trained,
            optimizer: trained.iter().map(|&n| moments(n)).sum(),
            reference: if request.has_reference { F32 * parameters } else { 0 },
            kv_cache: F32 * 2 * layers * cached * kv,
            activations: F32 * (tokens * (kept + once) + fused),
            saving: F32 * if request.has_reference { parameters } else { n_trained },
        }
    }

    /// All of it. Rollout and update take turns, so the larger of cache and activations counts; it is still there when a
    /// checkpoint is written.
    #[must_use]
    pub fn total(&self) -> u64 {
        let state = self.weights + self.panels + self.gradients + self.optimizer + self.reference;
        state + self.kv_cache.max(self.activations) + self.saving
    }

    /// Refuses a plan that needs more than `available` bytes, and says what would help.
    ///
    /// # Errors
    /// [`GrpoError::Memory`].
    pub fn check(&self, available: u64) -> Result<(), GrpoError> {
        let needed = self.total();
        if needed <= available {
            return Ok(());
        }
        Err(GrpoError::Memory { needed, available, advice: self.advice() })
    }

    /// What helps most, first.
    fn advice(&self) -> String {
        let state = self.gradients + self.optimizer + self.reference;
        let mut remedies = [
            (state, "train adapters (model.lora) instead of all weights, or optimizer.moments = \"8bit\""),
            (self.activations, "recompute activations (model.recompute), or lower learner.max_tokens"),
            (
                self.kv_cache,
                "play fewer episodes at once: lower rollout.tasks_per_step or rollout.group_size",
            ),
        ];
        remedies.sort_by_key(|&(bytes, _)| std::cmp::Reverse(bytes));
        remedies.iter().map(|&(_, remedy)| remedy).collect::<Vec<_>>().join("; ")
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("weights", self.weights),
            ("panels", self.panels),
            ("gradients", self.gradients),
            ("optimizer", self.optimizer),
            ("reference", self.reference),
            ("cache", self.kv_cache),
            ("activations", self.activations),
            ("saving", self.saving),
        ];
        for (name, bytes) in parts.into_iter().filter(|&(name, bytes)| bytes > 0 || name != "panels") {
            write!(f, "{name} {}, ", Size(bytes))?;
        }
        write!(f, "at most {} at once", Size(self.total()))
    }
}

/// Bytes for people.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.0 as f64 / f64::from(1 << 20);
        if mib < 1024.0 { write!(f, "{mib:.1} MiB") } else { write!(f, "{:.2} GiB", mib / 1024.0) }
    }
}

/// Elements of every tensor of the parameters.
fn tensor_sizes(model: &ModelConfig) -> Vec<usize> {
    let attention = model.attention_shape();
    let (v, c, f) = (model.vocab_size, model.hidden_size, model.intermediate_size);
    let mut sizes = vec![v * c];
    for _ in 0..model.num_hidden_layers {
        sizes.extend([c, attention.qkv_width() * c, attention.out_width() * c, c, 2 * f * c, f * c]);
    }
    sizes.push(c);
    if !model.tie_word_embeddings {
        sizes.push(v * c);
    }
    sizes
}
