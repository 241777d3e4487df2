//! Low-rank adapters (LoRA): a few trainable numbers beside frozen weights.
//!
//! A projection `W` with an adapter computes `W x + scale B A x`, with `A` (R, I) random and `B` (O, R) zero at first, so
//! that training begins at the frozen model. The reference policy is the same model with the adapter off.
//!
//! Source: Hu et al. 2021, arXiv:2106.09685; rank-stabilised scale: Kalajdzievski 2023, arXiv:2312.03732.

mod files;
mod mismatch;

use std::collections::BTreeSet;

use rand::{Rng, RngExt};
use reskill_kernels::ops::LowRank;
use reskill_kernels::{DType, Device, KernelError, Tensor};
use serde::{Deserialize, Serialize};

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::params::LayerParams;

/// A projection that an adapter is put beside; names as in Hugging Face's checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the projections of a block")]
pub enum Target {
    QProj,
    KProj,
    VProj,
    OProj,
    GateProj,
    UpProj,
    DownProj,
}

/// The fused linear layer that a target is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fused {
    Qkv,
    Out,
    GateUp,
    Down,
}

impl Target {
    /// All of them.
    pub const ALL: [Target; 7] = [
        Target::QProj,
        Target::KProj,
        Target::VProj,
        Target::OProj,
        Target::GateProj,
        Target::UpProj,
        Target::DownProj,
    ];

    /// The module's name inside a block, as in `self_attn.q_proj`.
    #[must_use]
    pub fn module(self) -> &'static str {
        match self {
            Target::QProj => "self_attn.q_proj",
            Target::KProj => "self_attn.k_proj",
            Target::VProj => "self_attn.v_proj",
            Target::OProj => "self_attn.o_proj",
            Target::GateProj => "mlp.gate_proj",
            Target::UpProj => "mlp.up_proj",
            Target::DownProj => "mlp.down_proj",
        }
    }

    /// (inputs, outputs, first output in the fused layer).
    fn place(self, config: &ModelConfig) -> (usize, usize, usize) {
        let (c, f) = (config.hidden_size, config.intermediate_size);
        let (q, kv) = (config.attention_shape().out_width(), config.attention_shape().kv_width());
        match self {
            Target::QProj => (c, q, 0),
            Target::KProj => (c, kv, q),
            Target::VProj => (c, kv, q + kv),
            Target::OProj => (q, c, 0),
            Target::GateProj => (c, f, 0),
            Target::UpProj => (c, f, f),
            Target::DownProj => (f, c, 0),
        }
    }

    fn fused(self) -> Fused {
        match self {
            Target::QProj | Target::KProj | Target::VProj => Fused::Qkv,
            Target::OProj => Fused::Out,
            Target::GateProj | Target::UpProj => Fused::GateUp,
            Target::DownProj => Fused::Down,
        }
    }
}

/// Numbers of an adapter; field names as in PEFT's `adapter_config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank R, >= 1.
    pub r: usize,
    /// The product is scaled by `lora_alpha / r`, or by `lora_alpha / sqrt(r)` if `use_rslora`; > 0.
    pub lora_alpha: f64,
    /// Projections that get an adapter, at least one.
    pub target_modules: BTreeSet<Target>,
    /// Whether the scale is rank-stabilised.
    pub use_rslora: bool,
}

impl Default for LoraConfig {
    fn default() -> Self {
        LoraConfig { r: 16, lora_alpha: 32.0, target_modules: Target::ALL.into(), use_rslora: false }
    }
}

impl LoraConfig {
    /// What the product of the factors is multiplied by.
    #[must_use]
    pub fn scale(&self) -> f32 {
        let r = self.r as f64;
        (self.lora_alpha / if self.use_rslora { r.sqrt() } else { r }) as f32
    }

    /// Elements of each factor for a model of this size, in the order of [`Lora::tensors`].
    #[must_use]
    pub fn factor_sizes(&self, model: &ModelConfig) -> Vec<usize> {
        self.factors(model).iter().map(|(_, shape)| shape.iter().product()).collect()
    }

    /// Name and shape of each factor for a model of this size, in the order of [`Lora::tensors`].
    fn factors(&self, model: &ModelConfig) -> Vec<(String, [usize; 2])> {
        let targets = |layer| self.target_modules.iter().map(move |&target| (layer, target));
        let pairs = (0..model.num_hidden_layers).flat_map(targets);
        pairs
            .flat_map(|(layer, target)| {
                let (inputs, outputs, _) = target.place(model);
                [
                    (factor_name(layer, target, "A"), [self.r, inputs]),
                    (factor_name(layer, target, "B"), [outputs, self.r]),
                ]
            })
            .collect()
    }

    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn validate(&self) -> Result<(), ModelError> {
        let check = |holds: bool, key: &'static str, value: String, expected: &str| {
            if holds {
                Ok(())
            } else {
                Err(ModelError::Config { key, value, expected: expected.to_string() })
            }
        };
        check((1..=1 << 16).contains(&self.r), "lora.r", self.r.to_string(), "a number in 1..=65536")?;
        check(
            self.lora_alpha > 0.0 && self.lora_alpha.is_finite(),
            "lora.lora_alpha",
            self.lora_alpha.to_string(),
            "a number > 0",
        )?;
        check(
            !self.target_modules.is_empty(),
            "lora.target_modules",
            "[]".to_string(),
            "at least one projection",
        )
    }
}

/// A factor's name as PEFT stores it.
fn factor_name(layer: usize, target: Target, factor: &str) -> String {
    format!("base_model.model.model.layers.{layer}.{}.lora_{factor}.weight", target.module())
}

/// The two factors beside one projection.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraPair {
    /// Which projection.
    pub target: Target,
    /// (R, I).
    pub a: Tensor,
    /// (O, R).
    pub b: Tensor,
    /// First output of the projection in the fused layer.
    first_output: usize,
}

/// The adapters of all blocks. The same structure holds their gradients and the moments of an optimizer.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    config: LoraConfig,
    /// Per block, in the order of [`Target`].
    layers: Vec<Vec<LoraPair>>,
}

impl Lora {
    /// Zeros for a model of this size, on the CPU.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn zeros(model: &ModelConfig, config: &LoraConfig) -> Result<Lora, ModelError> {
        model.validate()?;
        config.validate()?;
        let pair = |&target: &Target| {
            let (inputs, outputs, first_output) = target.place(model);
            let a = Tensor::zeros(&[config.r, inputs], &Device::Cpu)?;
            let b = Tensor::zeros(&[outputs, config.r], &Device::Cpu)?;
            Ok(LoraPair { target, a, b, first_output })
        };
        let layer = |_| config.target_modules.iter().map(pair).collect::<Result<Vec<_>, ModelError>>();
        let layers = (0..model.num_hidden_layers).map(layer).collect::<Result<_, _>>()?;
        Ok(Lora { config: config.clone(), layers })
    }

    /// `A` uniform in +-1/sqrt(I), `B` zero, as PEFT does: the model is unchanged at first.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn init(model: &ModelConfig, config: &LoraConfig, rng: &mut impl Rng) -> Result<Lora, ModelError> {
        let mut lora = Lora::zeros(model, config)?;
        for pair in lora.layers.iter_mut().flatten() {
            let bound = 1.0 / (pair.a.row_len() as f32).sqrt();
            for x in pair.a.host_mut()? {
                *x = bound * (2.0 * rng.random::<f32>() - 1.0);
            }
        }
        Ok(lora)
    }

    /// The numbers.
    #[must_use]
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// Zeros in f32, in the same shapes on the same device: room for gradients or moments.
    ///
    /// # Errors
    /// None on the CPU; [`ModelError::Kernel`] if a device has no room.
    pub fn zeros_like(&self) -> Result<Lora, ModelError> {
        self.mapped(|tensor| Tensor::zeros(tensor.shape(), &tensor.device()))
    }

    /// A copy on a device, stored as `dtype`: rounded, if that is bf16.
    ///
    /// # Errors
    /// [`ModelError::Kernel`] if the device has no room or does not offer the type.
    pub fn to_device(&self, device: &Device, dtype: DType) -> Result<Lora, ModelError> {
        self.mapped(|tensor| tensor.to_device_as(device, dtype))
    }

    fn mapped(&self, f: impl Fn(&Tensor) -> Result<Tensor, KernelError>) -> Result<Lora, ModelError> {
        let pair = |pair: &LoraPair| {
            let (target, first_output) = (pair.target, pair.first_output);
            Ok(LoraPair { target, a: f(&pair.a)?, b: f(&pair.b)?, first_output })
        };
        let layer = |layer: &Vec<LoraPair>| layer.iter().map(pair).collect::<Result<Vec<_>, ModelError>>();
        let layers = self.layers.iter().map(layer).collect::<Result<_, _>>()?;
        Ok(Lora { config: self.config.clone(), layers })
    }

    /// All factors in a fixed order: per block and target `A`, then `B`.
    #[must_use]
    pub fn tensors(&self) -> Vec<&Tensor> {
        self.layers.iter().flatten().flat_map(|pair| [&pair.a, &pair.b]).collect()
    }

    /// All factors, to write to, in the order of [`Lora::tensors`].
    pub fn tensors_mut(&mut self) -> Vec<&mut Tensor> {
        self.layers.iter_mut().flatten().flat_map(|pair| [&mut pair.a, &mut pair.b]).collect()
    }

    /// Names of the factors as PEFT stores them, in the order of [`Lora::tensors`].
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let layers = self.layers.iter().enumerate();
        layers
            .flat_map(|(layer, pairs)| pairs.iter().map(move |pair| (layer, pair.target)))
            .flat_map(|(layer, target)| ["A", "B"].map(|factor| factor_name(layer, target, factor)))
            .collect()
    }

    /// Whether this adapter has the shapes of a model of this size.
    pub(crate) fn check_fits(&self, model: &ModelConfig) -> Result<(), ModelError> {
        let fits = self.layers.len() == model.num_hidden_layers
            && self.layers.iter().flatten().all(|pair| {
                let (inputs, outputs, first) = pair.target.place(model);
                pair.a.row_len() == inputs && pair.b.rows() == outputs && pair.first_output == first
            });
        if fits { Ok(()) } else { Err(ModelError::AdapterSize { blocks: self.layers.len() }) }
    }

    /// The adapters of one block that belong to one fused layer.
    pub(crate) fn beside(&self, layer: usize, fused: Fused) -> impl Iterator<Item = LowRank<'_>> {
        let scale = self.config.scale();
        self.layers[layer].iter().filter(move |pair| pair.target.fused() == fused).map(move |pair| LowRank {
            a: &pair.a,
            b: &pair.b,
            scale,
            first_column: pair.first_output,
        })
    }

    /// As [`Lora::beside`], to write gradients to.
    pub(crate) fn beside_mut(
        &mut self,
        layer: usize,
        fused: Fused,
    ) -> impl Iterator<Item = (&mut Tensor, &mut Tensor)> {
        let pairs = self.layers[layer].iter_mut().filter(move |pair| pair.target.fused() == fused);
        pairs.map(|pair| (&mut pair.a, &mut pair.b))
    }

    /// Adds `scale B A` to the weights of every block. Those on a device are merged on the host, one at a time.
    pub(crate) fn merge_into(&self, layers: &mut [LayerParams]) -> Result<(), ModelError> {
        let scale = self.config.scale();
        for (params, pairs) in layers.iter_mut().zip(&self.layers) {
            for pair in pairs {
                let weight = match pair.target.fused() {
                    Fused::Qkv => &mut params.qkv,
                    Fused::Out => &mut params.out,
                    Fused::GateUp => &mut params.gate_up,
                    Fused::Down => &mut params.down,
                };
                let inputs = weight.row_len();
                let (a, b) = (pair.a.to_vec()?, pair.b.to_vec()?);
                let mut merged = weight.to_vec()?;
                let rows = merged[pair.first_output * inputs..].chunks_exact_mut(inputs);
                for (row, b) in rows.zip(b.chunks_exact(self.config.r)) {
                    for (&b, a) in b.iter().zip(a.chunks_exact(inputs)) {
                        for (to, a) in row.iter_mut().zip(a) {
                            *to += scale * b * a;
                        }
                    }
                }
                weight.copy_from_slice(&merged)?;
            }
        }
        Ok(())
    }
}
