//! The section `[model]`: which network is trained, and how.

use std::path::PathBuf;

use anyhow::{Result, bail};
use reskill_model::{LoraConfig, WeightStorage};
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

/// A pretrained model to begin with, and what training does to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BaseModelConfig {
    /// A folder with `config.json`, safetensors and `tokenizer.json`, a `.gguf` file, or `hf:org/name[@revision]` on the
    /// Hugging Face hub; a run keeps the commit that the name means when it begins. Empty: a small policy with random
    /// weights, of the sizes in `policy.model`.
    pub path: PathBuf,
    /// Trains an adapter of these numbers (`r`, `lora_alpha`, `target_modules`, `use_rslora`) beside frozen weights; `true`
    /// for one of the default numbers. `false` or absent: all weights are trained.
    #[serde(deserialize_with = "adapter", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AdapterChoice>")]
    pub lora: Option<LoraConfig>,
    /// Folder of an adapter that was trained before (`adapter_config.json`, `adapter_model.safetensors`), with the numbers in
    /// `lora`. Absent: a fresh one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// Whether the backward pass computes activations again instead of keeping them: the same result in less memory and
    /// more time.
    pub recompute: bool,
    /// Weights in panels for rollouts: `f32` (faster, in as much memory again), `bf16` (half of that, rounded), `none`.
    /// Absent: `f32` for a pretrained model, else `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<Panels>,
    /// Longest prompt and reply together that a pretrained model is given, in tokens, >= 1; its own limit if that is
    /// smaller.
    pub context: usize,
    /// Whether `policy/` holds the weights with the adapter added to them, instead of the adapter alone.
    pub merge: bool,
}

impl Default for BaseModelConfig {
    fn default() -> Self {
        BaseModelConfig {
            path: PathBuf::new(),
            lora: None,
            adapter: None,
            recompute: false,
            storage: None,
            context: 2048,
            merge: false,
        }
    }
}

/// How weights are stored for rollouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Panels {
    /// Not a second time.
    None,
    /// In f32.
    F32,
    /// In bf16.
    Bf16,
}

impl BaseModelConfig {
    /// Whether training begins with a pretrained model.
    #[must_use]
    pub fn is_pretrained(&self) -> bool {
        !self.path.as_os_str().is_empty()
    }

    /// The panels that rollouts are computed with.
    #[must_use]
    pub fn panels(&self) -> Option<WeightStorage> {
        match self.storage {
            Some(Panels::None) => None,
            Some(Panels::F32) => Some(WeightStorage::F32),
            Some(Panels::Bf16) => Some(WeightStorage::Bf16),
            None => self.is_pretrained().then_some(WeightStorage::F32),
        }
    }

    /// Refuses values out of range, naming the key.
    ///
    /// # Errors
    /// One line.
    pub fn validate(&self) -> Result<()> {
        if let Some(lora) = &self.lora {
            lora.validate()?;
            if !self.is_pretrained() {
                bail!(
                    "`model.lora` is set, expected false where `model.path` is empty: random weights are not frozen"
                );
            }
        }
        if self.adapter.is_some() && self.lora.is_none() {
            bail!(
                "`model.adapter` is set, expected absent where `model.lora` is: set model.lora to its numbers"
            );
        }
        if self.merge && self.lora.is_none() {
            bail!(
                "`model.merge` = true, expected false where `model.lora` is absent: there is no adapter to merge"
            );
        }
        if self.context == 0 {
            bail!("`model.context` = 0, expected at least 1");
        }
        Ok(())
    }
}

/// What `model.lora` may be in a file.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "read off by the schema alone")]
enum AdapterChoice {
    /// Whether there is an adapter of the default numbers.
    On(bool),
    /// Its numbers.
    Numbers(LoraConfig),
}

/// A table of numbers, or whether there is an adapter at all.
fn adapter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<LoraConfig>, D::Error> {
    struct Adapter;
    impl<'de> Visitor<'de> for Adapter {
        type Value = Option<LoraConfig>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("false, true, or a table with `r`, `lora_alpha` and `target_modules`")
        }

        fn visit_bool<E: Error>(self, on: bool) -> Result<Self::Value, E> {
            Ok(on.then(LoraConfig::default))
        }

        fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
            LoraConfig::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }
    deserializer.deserialize_any(Adapter)
}
