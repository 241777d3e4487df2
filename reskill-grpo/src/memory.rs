//! What a run will take of memory, before it takes it.

use std::fmt;

use reskill_kernels::Device;
use reskill_kernels::ops::Moments8;
use reskill_model::generate::PROMPT_ROWS;
use reskill_model::kv_cache::PAGE;
use reskill_model::{LoraConfig, ModelConfig, WeightStorage};

use crate::error::GrpoError;
use crate::learner::LearnerConfig;
use crate::moments::MomentPrecision;

/// What is planned.
#[derive(Debug, Clone)]
pub struct MemoryRequest<'a> {
    /// Where weights, optimizer, activations and cache lie, and in which precision.
    pub device: &'a Device,
    /// Whether the policy is trained; else it is only played.
    pub learns: bool,
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
    /// Panels of the projections for generation on a CPU, if there are any.
    pub panels: Option<WeightStorage>,
    /// Episodes that are played at once.
    pub slots: usize,
    /// Longest context of one of them, in tokens: a trajectory that is longer than `max_tokens` is run alone.
    pub context: usize,
}

/// Bytes by purpose. On a CPU tokenizer, environments and the program itself are not in it; on a CUDA device the context of
/// the driver is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Parameters of the policy.
    pub weights: u64,
    /// The same once more in panels, for generation on a CPU.
    pub panels: u64,
    /// What is trained once more in f32, on a device that stores it in fewer bits.
    pub masters: u64,
    /// Gradients of what is trained.
    pub gradients: u64,
    /// Moments of AdamW.
    pub optimizer: u64,
    /// The frozen copy.
    pub reference: u64,
    /// Keys and values of the rollouts; on a device also the rows of a pass over prompts.
    pub kv_cache: u64,
    /// What the backward pass needs of the forward pass; on a CPU with its scratch.
    pub activations: u64,
    /// What operations on a device need inside, which is kept for the next one.
    pub scratch: u64,
    /// The bytes of a checkpoint's largest file, which are put together before they are written.
    pub saving: u64,
    /// Where.
    place: Place,
    learns: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Cpu,
    /// With whether it stores less than f32.
    Device {
        name: String,
        is_narrow: bool,
    },
}

/// Bytes of an f32.
const F32: u64 = 4;
/// The fused log-probability on a CPU: eight tiles of 1024 tokens for 1024 rows.
const FUSED_ROWS: u64 = 1024;
const FUSED_TOKENS: u64 = 8 * 1024;
/// On a device: rows and tokens of a slab of gradients, rows of the statistics of strips, and the tokens of a strip.
const SLAB: u64 = 8192;
const STRIP_ROWS: u64 = 4096;
const STRIP: u64 = 256;
/// On a device: code of the kernels, split products (a tile of 128 x 128 in f32 for four waves of some 150
/// multiprocessors, 40 MiB), the workspace of cuBLASLt (32 MiB), lists and columns of a batch, rounding of sizes.
pub const DEVICE_ALLOWANCE: u64 = 256 << 20;

/// Sizes of a model as bytes are counted.
struct Widths {
    c: u64,
    f: u64,
    layers: u64,
    qkv: u64,
    out: u64,
    kv: u64,
    heads: u64,
    /// Heads that are normalised, and their width.
    normed_heads: u64,
    normed: u64,
    vocab: u64,
}

impl Widths {
    fn of(model: &ModelConfig) -> Widths {
        let (attention, wide) = (model.attention_shape(), |x: usize| x as u64);
        let normed_heads = if model.qk_norm { attention.n_heads + attention.n_kv_heads } else { 0 };
        Widths {
            c: wide(model.hidden_size),
            f: wide(model.intermediate_size),
            layers: wide(model.num_hidden_layers),
            qkv: wide(attention.qkv_width()),
            out: wide(attention.out_width()),
            kv: wide(attention.kv_width()),
            heads: wide(attention.n_heads),
            normed_heads: wide(normed_heads),
            normed: wide(normed_heads * attention.head_dim),
            vocab: wide(model.vocab_size),
        }
    }

    /// Numbers a packed token that a block keeps: the residual stream twice, both norms, projections, attention, MLP; and
    /// its statistics, which are f32.
    fn of_block(&self) -> (u64, u64) {
        let numbers = 4 * self.c + self.qkv + self.normed + self.out + 3 * self.f;
        (numbers, 2 + self.heads + self.normed_heads)
    }

    /// The same once: the last residual and norm with its statistic, and the gradients that walk backwards, with that of
    /// the hidden states.
    fn once(&self) -> (u64, u64) {
        (5 * self.c + self.qkv + self.out + 3 * self.f, 1)
    }

    /// Bytes a packed token of a training pass. Recomputing keeps one block, and of each the residual stream before it.
    fn activations(&self, size: u64, recompute: bool) -> u64 {
        let ((numbers, statistics), (once, last)) = (self.of_block(), self.once());
        match recompute {
            true => size * (self.layers * self.c + numbers + once) + F32 * (statistics + last),
            false => size * (self.layers * numbers + once) + F32 * (self.layers * statistics + last),
        }
    }

    /// Bytes of the scratch memory of operations on a device, for a packed batch of `tokens` and `rows` of a head.
    fn scratch(&self, size: u64, tokens: u64, lora: bool) -> u64 {
        let strips = 16 * tokens.min(STRIP_ROWS) * self.vocab.div_ceil(STRIP);
        let slab = size * tokens.min(SLAB) * self.vocab.min(SLAB).next_multiple_of(STRIP);
        let partial = if self.vocab > SLAB { F32 * tokens.min(SLAB) * self.c } else { 0 };
        // A row of d_out . out for each head; and slots for keys that many see, at most as many as there are keys.
        let attention = F32 * tokens * (self.heads + 2 * self.kv);
        let added = if lora { F32 * tokens * self.qkv.max(2 * self.f) } else { 0 };
        strips + slab + partial + attention + added + F32 * self.vocab + DEVICE_ALLOWANCE
    }
}

impl MemoryPlan {
    /// Adds up a request.
    #[must_use]
    pub fn new(request: &MemoryRequest<'_>) -> MemoryPlan {
        let (model, wide) = (request.model, |x: usize| x as u64);
        let tensors = tensor_sizes(model);
        let parameters: u64 = tensors.iter().map(|&n| wide(n)).sum();
        let trained = match request.lora {
            _ if !request.learns => Vec::new(),
            None => tensors,
            Some(lora) => lora.factor_sizes(model),
        };
        let n_trained: u64 = trained.iter().map(|&n| wide(n)).sum();
        let moments = |n: usize| match request.moments {
            MomentPrecision::EightBit if n >= 4096 => wide(Moments8::bytes(n)),
            _ => 2 * F32 * wide(n),
        };
        let size = wide(request.device.precision().size());
        let adapter = match request.lora {
            Some(lora) => lora.factor_sizes(model).into_iter().map(wide).sum(),
            None => 0,
        };
        let has_reference = request.has_reference && request.learns;
        let state = MemoryPlan {
            weights: size * parameters,
            panels: 0,
            masters: if size < F32 { F32 * n_trained } else { 0 },
            gradients: F32 * n_trained,
            optimizer: trained.iter().map(|&n| moments(n)).sum(),
            reference: if has_reference { size * parameters } else { 0 },
            kv_cache: 0,
            activations: 0,
            scratch: 0,
            saving: 0,
            place: Place::Cpu,
            learns: request.learns,
        };
        let tokens = wide(request.learner.max_tokens.max(request.context));
        let widths = Widths::of(model);
        if request.device.is_cpu() {
            return state.on_cpu(request, &widths, tokens, parameters, n_trained);
        }
        MemoryPlan { weights: size * (parameters + adapter), ..state }
            .on_device(request, &widths, tokens, size)
    }

    /// With what passes on the CPU take.
    fn on_cpu(
        self,
        request: &MemoryRequest<'_>,
        widths: &Widths,
        tokens: u64,
        parameters: u64,
        n_trained: u64,
    ) -> MemoryPlan {
        let fused = tokens.min(FUSED_ROWS) * widths.vocab.min(FUSED_TOKENS);
        let cached = (request.slots * request.context.next_multiple_of(16)) as u64;
        MemoryPlan {
            panels: match request.panels {
                None => 0,
                Some(WeightStorage::F32) => F32 * parameters,
                Some(WeightStorage::Bf16) => F32 / 2 * parameters,
            },
            kv_cache: F32 * 2 * widths.layers * cached * widths.kv,
            activations: match self.learns {
                true => tokens * widths.activations(F32, request.recompute) + F32 * fused,
                false => 0,
            },
            saving: F32 * if self.reference > 0 { parameters } else { n_trained },
            ..self
        }
    }

    /// With what passes on a device take, which stores a number in `size` bytes.
    fn on_device(self, request: &MemoryRequest<'_>, widths: &Widths, tokens: u64, size: u64) -> MemoryPlan {
        let cached = (request.slots * request.context.div_ceil(PAGE) * PAGE) as u64;
        let prompts = (request.slots * request.context).min(PROMPT_ROWS.max(request.context)) as u64;
        let prompt_row = size * (2 * widths.c + widths.qkv + widths.normed + widths.out + 3 * widths.f);
        // The hidden states that predict, their gradient, and the gradient of all hidden states in f32.
        let selected = 2 * size * widths.c + F32 * widths.c;
        let (learnt, rows) = match self.learns {
            true => (tokens * (widths.activations(size, request.recompute) + selected), tokens),
            false => (0, request.slots as u64),
        };
        MemoryPlan {
            kv_cache: size * 2 * widths.layers * cached * widths.kv + prompts * prompt_row,
            activations: learnt,
            scratch: widths.scratch(size, rows, request.lora.is_some() && self.learns),
            place: Place::Device { name: request.device.to_string(), is_narrow: size < F32 },
            ..self
        }
    }

    /// All of it. On a CPU rollout and update take turns, so the larger of cache and activations counts; it is still there
    /// when a checkpoint is written. On a device the learner keeps its memory during rollouts.
    #[must_use]
    pub fn total(&self) -> u64 {
        let state =
            self.weights + self.panels + self.masters + self.gradients + self.optimizer + self.reference;
        match self.place {
            Place::Cpu => state + self.kv_cache.max(self.activations) + self.saving,
            Place::Device { .. } => state + self.kv_cache + self.activations + self.scratch,
        }
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
        let what = if self.learns { "training" } else { "playing" };
        let place = match &self.place {
            Place::Cpu => String::new(),
            Place::Device { name, .. } => format!(" of {name}"),
        };
        Err(GrpoError::Memory { what, place, needed, available, advice: self.advice() })
    }

    /// What helps most, first.
    fn advice(&self) -> String {
        let fewer = "play fewer episodes at once: lower rollout.tasks_per_step or rollout.group_size";
        let mut remedies = Vec::new();
        if self.learns {
            let state = self.masters + self.gradients + self.optimizer + self.reference;
            remedies.extend([
                (
                    state,
                    "train adapters (model.lora) instead of all weights, or optimizer.moments = \"8bit\"",
                ),
                (self.activations, "recompute activations (model.recompute), or lower learner.max_tokens"),
                (self.kv_cache, fewer),
            ]);
        } else {
            remedies.push((self.kv_cache, "play fewer episodes at once (--slots)"));
        }
        if let Place::Device { is_narrow, .. } = self.place {
            if !is_narrow {
                remedies.push((self.weights + self.kv_cache, "store weights in bf16 (--precision bf16)"));
            }
            remedies.push((0, "or use the processor (--device cpu)"));
        }
        remedies.sort_by_key(|&(bytes, _)| std::cmp::Reverse(bytes));
        remedies.iter().map(|&(_, remedy)| remedy).collect::<Vec<_>>().join("; ")
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("weights", self.weights),
            ("panels", self.panels),
            ("masters", self.masters),
            ("gradients", self.gradients),
            ("optimizer", self.optimizer),
            ("reference", self.reference),
            ("cache", self.kv_cache),
            ("activations", self.activations),
            ("scratch", self.scratch),
            ("saving", self.saving),
        ];
        for (name, bytes) in parts.into_iter().filter(|&(_, bytes)| bytes > 0) {
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
