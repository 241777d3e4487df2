//! Adapters on disk, in the format of PEFT: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::mismatch::mismatch;
use super::{Lora, LoraConfig, Target};
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::weights::save::{Elements, serialize, write_file, write_tensors};
use crate::weights::source::{TensorSource, values_of};
use crate::weights::{Mapped, Precision, Shard, Shards};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// Further keys of `adapter_config.json` that would change what is computed.
const NOT_PLAIN: [&str; 11] = [
    "use_dora",
    "fan_in_fan_out",
    "lora_bias",
    "modules_to_save",
    "layers_to_transform",
    "exclude_modules",
    "rank_pattern",
    "alpha_pattern",
    "trainable_token_indices",
    "target_parameters",
    "layer_replication",
];

/// The keys of `adapter_config.json` that are used.
#[derive(Deserialize)]
struct Raw {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    target_modules: Value,
    #[serde(default)]
    use_rslora: bool,
    bias: Option<String>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

impl Lora {
    /// Writes the adapter into a folder that PEFT loads.
    ///
    /// - `base`: name of the frozen model, for those who load it
    ///
    /// # Errors
    /// [`ModelError::File`], [`ModelError::Weights`].
    pub fn save(&self, dir: &Path, base: &str) -> Result<(), ModelError> {
        std::fs::create_dir_all(dir).map_err(|source| ModelError::File {
            path: dir.to_path_buf(),
            action: "written",
            source,
        })?;
        write_tensors(&dir.join(WEIGHTS), self.elements()?)?;
        let modules: Vec<&str> = self.config.target_modules.iter().map(|target| short(*target)).collect();
        let config = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "inference_mode": true,
            "r": self.config.r,
            "lora_alpha": self.config.lora_alpha,
            "lora_dropout": 0.0,
            "target_modules": modules,
            "bias": "none",
            "fan_in_fan_out": false,
            "use_rslora": self.config.use_rslora,
            "use_dora": false,
            "modules_to_save": null,
        });
        write_file(&dir.join(CONFIG), &serde_json::to_vec_pretty(&config).unwrap_or_default())
    }

    /// Reads an adapter that PEFT or [`Lora::save`] wrote, for a model of this size.
    ///
    /// # Errors
    /// [`ModelError::File`]; [`ModelError::CheckpointConfig`] for what is not plain LoRA; [`ModelError::Weights`] if the
    /// factors are not those of the configuration, or those of another model: it says which key or size is at odds, and
    /// names the first factors that are missing, not expected, or of another shape.
    pub fn load(model: &ModelConfig, dir: &Path) -> Result<Lora, ModelError> {
        let path = dir.join(CONFIG);
        let text = std::fs::read_to_string(&path).map_err(|source| ModelError::File {
            path: path.clone(),
            action: "read",
            source,
        })?;
        let odd = |reason: String| ModelError::CheckpointConfig { path: path.clone(), reason };
        let raw: Raw = serde_json::from_str(&text).map_err(|source| odd(source.to_string()))?;
        let config = raw.into_config().map_err(odd)?;
        config.validate().map_err(|source| odd(source.to_string()))?;
        let path = dir.join(WEIGHTS);
        let file = Shards::one(Shard::new(Mapped::open(&path)?, &path)?);
        Lora::read(model, &config, &file, &path, CONFIG)
    }

    /// The factors as the bytes of a safetensors file (f32, PEFT's names).
    ///
    /// # Errors
    /// [`ModelError::Weights`] if the format refuses the tensors.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, ModelError> {
        serialize(self.elements()?, Path::new(WEIGHTS))
    }

    /// The factors from the bytes of a safetensors file. `path` is named in errors.
    ///
    /// # Errors
    /// As [`Lora::load`].
    pub fn from_safetensors(
        model: &ModelConfig,
        config: &LoraConfig,
        bytes: &[u8],
        path: &Path,
    ) -> Result<Lora, ModelError> {
        Lora::read(model, config, &Shards::one(Shard::new(bytes, path)?), path, "the configuration")
    }

    fn elements(&self) -> Result<Vec<(String, Elements<'_>)>, ModelError> {
        let named = self.names().into_iter().zip(self.tensors());
        named
            .map(|(name, tensor)| {
                let (shape, values) = (tensor.shape().to_vec(), values_of(tensor)?);
                Ok((name, Elements { shape, values, precision: Precision::F32 }))
            })
            .collect()
    }

    fn read(
        model: &ModelConfig,
        config: &LoraConfig,
        file: &dyn TensorSource,
        path: &Path,
        configuration: &str,
    ) -> Result<Lora, ModelError> {
        model.validate()?;
        if let Some(reason) = mismatch(model, config, file, configuration) {
            return Err(ModelError::Weights { path: path.to_path_buf(), reason });
        }
        let mut lora = Lora::zeros(model, config)?;
        let names = lora.names();
        for (name, tensor) in names.iter().zip(lora.tensors_mut()) {
            file.read(name, tensor.host_mut()?);
        }
        Ok(lora)
    }
}

impl Raw {
    fn into_config(self) -> Result<LoraConfig, String> {
        let is_set = |value: &Value| match value {
            Value::Null => false,
            Value::Bool(on) => *on,
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
            _ => true,
        };
        if self.peft_type != "LORA" {
            return Err(format!("`peft_type` = {:?} is not supported, expected \"LORA\"", self.peft_type));
        }
        if let Some(bias) = self.bias.as_deref().filter(|&bias| bias != "none") {
            return Err(format!("`bias` = {bias:?} is not supported, expected \"none\""));
        }
        let refused = NOT_PLAIN.iter().find(|&&key| self.others.get(key).is_some_and(is_set));
        if let Some(key) = refused {
            return Err(format!("`{key}` is set, which is not supported"));
        }
        let modules: Vec<String> = match &self.target_modules {
            Value::String(all) if all == "all-linear" => {
                Target::ALL.map(|target| short(target).to_string()).to_vec()
            }
            list => serde_json::from_value(list.clone())
                .map_err(|_| "`target_modules` must be a list of names of projections".to_string())?,
        };
        let target = |name: &String| {
            let known = Target::ALL.into_iter().find(|&target| short(target) == name);
            known.ok_or_else(|| format!("`target_modules` names {name:?}, which is no projection of a block"))
        };
        let target_modules = modules.iter().map(target).collect::<Result<BTreeSet<Target>, _>>()?;
        Ok(LoraConfig { r: self.r, lora_alpha: self.lora_alpha, target_modules, use_rslora: self.use_rslora })
    }
}

/// The module's own name, as in `q_proj`.
pub(super) fn short(target: Target) -> &'static str {
    target.module().rsplit('.').next().unwrap_or_default()
}
