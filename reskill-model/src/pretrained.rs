//! A pretrained model on disk: a folder of Hugging Face or a GGUF file, with tokenizer and chat template.

#[cfg(feature = "hub")]
pub mod hub;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use reskill_kernels::Device;
use serde_json::{Value as Json, json};

use crate::chat::ChatTemplate;
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::gguf::{Gguf, Value};
use crate::hf_config;
use crate::params::Params;
use crate::tokenizer::PolicyTokenizer;
use crate::transformer::Transformer;
use crate::weights::{self, Mapped, SaveOptions};

/// Where a checkpoint lies and what its small files say; weights are read when they are asked for.
#[derive(Debug)]
pub struct Pretrained {
    path: PathBuf,
    config: ModelConfig,
    /// The file, if it is GGUF.
    gguf: Option<Gguf<Mapped>>,
    /// Tokens that end a reply, the usual one first.
    end_tokens: Vec<u32>,
    /// `tokenizer_config.json`, or what stands for it in GGUF.
    tokenizer_config: Json,
    /// `generation_config.json`.
    generation_config: Json,
}

/// Names of special tokens, and their keys in GGUF.
const SPECIAL: [(&str, &str); 4] = [
    ("bos_token", "tokenizer.ggml.bos_token_id"),
    ("eos_token", "tokenizer.ggml.eos_token_id"),
    ("unk_token", "tokenizer.ggml.unknown_token_id"),
    ("pad_token", "tokenizer.ggml.padding_token_id"),
];

impl Pretrained {
    /// Opens a folder with `config.json` and safetensors, or a file `*.gguf`.
    ///
    /// # Errors
    /// [`ModelError::File`]; [`ModelError::CheckpointConfig`] or [`ModelError::Weights`] for what is not supported.
    pub fn open(path: &Path) -> Result<Pretrained, ModelError> {
        if path.is_dir() { Pretrained::open_folder(path) } else { Pretrained::open_gguf(path) }
    }

    fn open_folder(dir: &Path) -> Result<Pretrained, ModelError> {
        let config_path = dir.join("config.json");
        let text = read_text(&config_path)?;
        let config = hf_config::from_json(&text, &config_path)?;
        let raw: Json = parse(&config_path, &text)?;
        let generation_config = optional_json(&dir.join("generation_config.json"))?;
        let mut tokenizer_config = optional_json(&dir.join("tokenizer_config.json"))?;
        let template = dir.join("chat_template.jinja");
        if template.is_file() {
            tokenizer_config["chat_template"] = read_text(&template)?.into();
        }
        let mut end_tokens = ids(&generation_config["eos_token_id"]);
        if end_tokens.is_empty() {
            end_tokens = ids(&raw["eos_token_id"]);
        }
        Ok(Pretrained {
            path: dir.to_path_buf(),
            config,
            gguf: None,
            end_tokens,
            tokenizer_config,
            generation_config,
        })
    }

    fn open_gguf(path: &Path) -> Result<Pretrained, ModelError> {
        let gguf = Gguf::open(path)?;
        let config = gguf.config()?;
        let id = |key: &str| gguf.get(key).and_then(Value::as_usize).and_then(|id| u32::try_from(id).ok());
        let mut end_tokens: Vec<u32> = ["eos_token_id", "eot_token_id"]
            .iter()
            .filter_map(|key| id(&format!("tokenizer.ggml.{key}")))
            .collect();
        end_tokens.dedup();
        let tokens = gguf.get("tokenizer.ggml.tokens").and_then(Value::as_list).unwrap_or_default();
        let mut tokenizer_config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": false,
            "model_max_length": config.max_position_embeddings,
        });
        for (name, key) in SPECIAL {
            let token = id(key).and_then(|id| tokens.get(id as usize)).and_then(Value::as_str);
            if let Some(token) = token {
                tokenizer_config[name] = token.into();
            }
        }
        if let Some(template) = gguf.get("tokenizer.chat_template").and_then(Value::as_str) {
            tokenizer_config["chat_template"] = template.into();
        }
        let mut generation_config = json!({ "eos_token_id": end_tokens });
        for (name, key) in [SPECIAL[0], SPECIAL[3]] {
            if let Some(id) = id(key) {
                generation_config[format!("{name}_id")] = id.into();
            }
        }
        Ok(Pretrained {
            path: path.to_path_buf(),
            config,
            gguf: Some(gguf),
            end_tokens,
            tokenizer_config,
            generation_config,
        })
    }

    /// The sizes.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Tokens that end a reply, the usual one first.
    #[must_use]
    pub fn end_tokens(&self) -> &[u32] {
        &self.end_tokens
    }

    /// Reads the weights.
    ///
    /// # Errors
    /// [`ModelError::Weights`] lists all that is missing, not expected, or odd.
    pub fn model(&self) -> Result<Transformer, ModelError> {
        self.model_on(&Device::Cpu)
    }

    /// Reads the weights to a device, in its precision, one tensor at a time.
    ///
    /// # Errors
    /// As [`Pretrained::model`]; [`ModelError::Kernel`] if the device has no room.
    pub fn model_on(&self, device: &Device) -> Result<Transformer, ModelError> {
        Transformer::new(&self.config, self.params(device)?)
    }

    fn params(&self, device: &Device) -> Result<Params, ModelError> {
        match &self.gguf {
            Some(gguf) => gguf.params(device),
            None => weights::from_folder(&self.config, &self.path, device),
        }
    }

    /// Reads the tokenizer.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`]; [`ModelError::File`].
    pub fn tokenizer(&self) -> Result<PolicyTokenizer, ModelError> {
        let json = match &self.gguf {
            Some(gguf) => gguf.tokenizer_json()?,
            None => read_text(&self.path.join("tokenizer.json"))?,
        };
        let end_token = self.end_tokens.first().copied().unwrap_or(u32::MAX);
        PolicyTokenizer::pretrained(json.as_bytes(), end_token).map_err(|source| match source {
            ModelError::Tokenizer { reason } => {
                ModelError::Tokenizer { reason: format!("{}: {reason}", self.path.display()) }
            }
            other => other,
        })
    }

    /// Compiles the chat template, if there is one.
    ///
    /// # Errors
    /// [`ModelError::ChatTemplate`].
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>, ModelError> {
        let source = match &self.tokenizer_config["chat_template"] {
            Json::String(source) => source.as_str(),
            // Several by name, as some checkpoints have them.
            Json::Array(named) => {
                let default = named.iter().find(|one| one["name"] == "default").or(named.first());
                match default.and_then(|one| one["template"].as_str()) {
                    Some(source) => source,
                    None => return Ok(None),
                }
            }
            _ => return Ok(None),
        };
        let special: BTreeMap<String, String> = SPECIAL
            .iter()
            .filter_map(|(name, _)| {
                let token = &self.tokenizer_config[*name];
                let text = token.as_str().or_else(|| token["content"].as_str())?;
                Some(((*name).to_string(), text.to_string()))
            })
            .collect();
        Ok(Some(ChatTemplate::new(source, special)?))
    }

    /// Writes `model`, which may have been trained since, as a folder that `transformers` loads, with this checkpoint's
    /// tokenizer, chat template and generation settings.
    ///
    /// # Errors
    /// [`ModelError::File`]; [`ModelError::Frozen`] if an adapter is attached: merge it first, or save it by itself.
    pub fn save(&self, model: &Transformer, dir: &Path, options: &SaveOptions) -> Result<(), ModelError> {
        let tokenizer = match &self.gguf {
            Some(gguf) => gguf.tokenizer_json().map(Some)?,
            None => {
                let path = self.path.join("tokenizer.json");
                if path.is_file() { Some(read_text(&path)?) } else { None }
            }
        };
        let pretty = |json: &Json| serde_json::to_vec_pretty(json).unwrap_or_default();
        let mut files = vec![("generation_config.json", pretty(&self.generation_config))];
        if let Some(json) = tokenizer {
            files.push(("tokenizer.json", json.into_bytes()));
            files.push(("tokenizer_config.json", pretty(&self.tokenizer_config)));
        }
        files.retain(|(name, bytes)| *name != "generation_config.json" || bytes != b"null");
        save_model(model, &self.end_tokens, &self.generation_config, dir, options)?;
        files.iter().try_for_each(|(name, bytes)| weights::save::write_file(&dir.join(name), bytes))
    }
}

/// Writes `config.json` and the weights.
fn save_model(
    model: &Transformer,
    end_tokens: &[u32],
    generation_config: &Json,
    dir: &Path,
    options: &SaveOptions,
) -> Result<(), ModelError> {
    if model.adapter().is_some() {
        return Err(ModelError::Frozen {
            what: "a model with an adapter",
            because: "merge it before saving",
        });
    }
    std::fs::create_dir_all(dir).map_err(|source| ModelError::File {
        path: dir.to_path_buf(),
        action: "written",
        source,
    })?;
    let end = match end_tokens {
        [] => Json::Null,
        [one] => (*one).into(),
        several => several.into(),
    };
    let special = [
        ("bos_token_id", generation_config["bos_token_id"].clone()),
        ("eos_token_id", end),
        ("pad_token_id", generation_config["pad_token_id"].clone()),
    ];
    let config = hf_config::to_json(model.config(), options.precision.torch_name(), &special)?;
    weights::save::to_folder(model.config(), model.params(), dir, options)?;
    weights::save::write_file(&dir.join("config.json"), config.as_bytes())
}

/// A number, or a list of numbers.
fn ids(json: &Json) -> Vec<u32> {
    let one = |json: &Json| json.as_u64().and_then(|id| u32::try_from(id).ok());
    match json {
        Json::Array(list) => list.iter().filter_map(one).collect(),
        single => one(single).into_iter().collect(),
    }
}

fn read_text(path: &Path) -> Result<String, ModelError> {
    std::fs::read_to_string(path).map_err(|source| ModelError::File {
        path: path.to_path_buf(),
        action: "read",
        source,
    })
}

fn parse(path: &Path, text: &str) -> Result<Json, ModelError> {
    serde_json::from_str(text).map_err(|source| ModelError::CheckpointConfig {
        path: path.to_path_buf(),
        reason: source.to_string(),
    })
}

/// A JSON object, null if there is no such file.
fn optional_json(path: &Path) -> Result<Json, ModelError> {
    if !path.is_file() {
        return Ok(Json::Null);
    }
    let json = parse(path, &read_text(path)?)?;
    if json.is_object() {
        return Ok(json);
    }
    Err(ModelError::CheckpointConfig { path: path.to_path_buf(), reason: "is no JSON object".to_string() })
}
