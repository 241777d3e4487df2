//! `config.json` of Hugging Face: Llama, Qwen2 and Qwen3 read into one [`ModelConfig`], and written back.
//!
//! Keys that change what the network computes and that this crate does not implement are refused; keys that do not
//! (dropout, initialisation, caching, types of storage, names) are passed over.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::rope_config::{RopeAngles, RopeScaling};

/// The architectures that one decoder covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Llama 2 and 3, SmolLM2.
    Llama,
    /// Qwen2 and Qwen2.5, dense.
    Qwen2,
    /// Qwen3, dense.
    Qwen3,
}

impl Family {
    /// The family that computes what `config` says.
    ///
    /// # Errors
    /// [`ModelError::Config`] if no family has this combination of biases and norms.
    pub fn of(config: &ModelConfig) -> Result<Family, ModelError> {
        match (config.qk_norm, config.qkv_bias, config.out_bias, config.mlp_bias) {
            (true, qkv, out, false) if qkv == out => Ok(Family::Qwen3),
            (false, true, false, false) => Ok(Family::Qwen2),
            (false, qkv, out, _) if qkv == out => Ok(Family::Llama),
            (norm, qkv, out, mlp) => Err(ModelError::Config {
                key: "qk_norm, qkv_bias, out_bias, mlp_bias",
                value: format!("{norm}, {qkv}, {out}, {mlp}"),
                expected: "a combination of Llama, Qwen2 or Qwen3, which alone can be saved".to_string(),
            }),
        }
    }

    fn named(model_type: &str) -> Option<Family> {
        match model_type {
            "llama" => Some(Family::Llama),
            "qwen2" => Some(Family::Qwen2),
            "qwen3" => Some(Family::Qwen3),
            _ => None,
        }
    }

    fn model_type(self) -> &'static str {
        match self {
            Family::Llama => "llama",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
        }
    }

    fn architecture(self) -> &'static str {
        match self {
            Family::Llama => "LlamaForCausalLM",
            Family::Qwen2 => "Qwen2ForCausalLM",
            Family::Qwen3 => "Qwen3ForCausalLM",
        }
    }
}

/// The keys of `config.json` that matter here. `Option<Option<..>>` is not needed: for each of them null means what
/// leaving it out means, but for the heads of Qwen, see below.
#[derive(Debug, Deserialize)]
struct Raw {
    model_type: Option<String>,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f64>,
    tie_word_embeddings: Option<bool>,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    rope_theta: Option<f64>,
    rope_scaling: Option<RawRope>,
    rope_parameters: Option<RawRope>,
    partial_rotary_factor: Option<f64>,
    rope_interleaved: Option<bool>,
    use_sliding_window: Option<bool>,
    sliding_window: Option<usize>,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
    original_max_position_embeddings: Option<usize>,
    quantization_config: Option<Value>,
}

/// `rope_scaling` of older files, `rope_parameters` of newer ones.
#[derive(Debug, Default, Deserialize)]
struct RawRope {
    rope_type: Option<String>,
    r#type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
    partial_rotary_factor: Option<f64>,
    #[serde(flatten)]
    others: std::collections::BTreeMap<String, Value>,
}

/// Reads the text of a `config.json`; `path` is named in errors.
///
/// # Errors
/// [`ModelError::CheckpointConfig`] names the key and what is supported.
pub fn from_json(text: &str, path: &Path) -> Result<ModelConfig, ModelError> {
    let odd = |reason: String| ModelError::CheckpointConfig { path: path.to_path_buf(), reason };
    let raw: Raw = serde_json::from_str(text).map_err(|source| odd(source.to_string()))?;
    let config = raw.into_config().map_err(odd)?;
    config.validate().map_err(|source| odd(source.to_string()))?;
    Ok(config)
}

impl Raw {
    fn into_config(self) -> Result<ModelConfig, String> {
        let model_type = self.model_type.as_deref().unwrap_or_default();
        let family = Family::named(model_type).ok_or_else(|| {
            format!(
                "`model_type` = {model_type:?} is not supported, expected \"llama\", \"qwen2\" or \"qwen3\""
            )
        })?;
        self.refuse_other_networks()?;
        let heads = self.num_attention_heads;
        let head_dim = match (self.head_dim, family) {
            (Some(head_dim), _) => head_dim,
            (None, Family::Qwen3) => 128,
            (None, _) => self.hidden_size.checked_div(heads).unwrap_or_default(),
        };
        let attention_bias = self.attention_bias.unwrap_or(false);
        let max_position_embeddings =
            self.max_position_embeddings.unwrap_or(if family == Family::Llama { 2048 } else { 32_768 });
        let (rope_theta, rope_scaling) = self.rope(max_position_embeddings)?;
        Ok(ModelConfig {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: self.num_key_value_heads.unwrap_or(heads),
            head_dim,
            max_position_embeddings,
            rope_theta,
            rms_norm_eps: self.rms_norm_eps.unwrap_or(1e-6) as f32,
            tie_word_embeddings: self.tie_word_embeddings.unwrap_or(false),
            qkv_bias: family == Family::Qwen2 || attention_bias,
            out_bias: family != Family::Qwen2 && attention_bias,
            mlp_bias: family == Family::Llama && self.mlp_bias.unwrap_or(false),
            qk_norm: family == Family::Qwen3,
            rope_angles: RopeAngles::F32,
            rope_scaling,
        })
    }

    fn refuse_other_networks(&self) -> Result<(), String> {
        if let Some(act) = self.hidden_act.as_deref().filter(|&act| act != "silu" && act != "swish") {
            return Err(format!("`hidden_act` = {act:?} is not supported, expected \"silu\""));
        }
        if self.quantization_config.is_some() {
            return Err(
                "`quantization_config` is set: quantised safetensors are not supported; use the original \
                        checkpoint or a GGUF file"
                    .to_string(),
            );
        }
        if self.rope_interleaved == Some(true) {
            return Err("`rope_interleaved` = true is not supported, expected false".to_string());
        }
        let windowed = match &self.layer_types {
            Some(types) => types.iter().find(|&kind| kind != "full_attention").cloned(),
            None => {
                let first = self.max_window_layers.unwrap_or(28);
                let on = self.use_sliding_window == Some(true) && self.sliding_window.is_some();
                (on && first < self.num_hidden_layers).then(|| "sliding_attention".to_string())
            }
        };
        match windowed {
            Some(kind) => Err(format!(
                "some layers use {kind:?} (`layer_types`, `use_sliding_window`), which is not supported, expected \
                 \"full_attention\" in all"
            )),
            None => Ok(()),
        }
    }

    /// Base and scaling; what `rope_scaling` says comes before `rope_parameters`, as in Hugging Face's code.
    fn rope(&self, max_positions: usize) -> Result<(f64, Option<RopeScaling>), String> {
        let none = RawRope::default();
        let (key, rope) = match (&self.rope_scaling, &self.rope_parameters) {
            (Some(rope), _) => ("rope_scaling", rope),
            (None, Some(rope)) => ("rope_parameters", rope),
            (None, None) => ("rope_scaling", &none),
        };
        if let Some((layers, _)) = rope.others.iter().find(|(_, value)| value.is_object()) {
            return Err(format!("`{key}.{layers}`: parameters by kind of layer are not supported"));
        }
        let partial = rope.partial_rotary_factor.or(self.partial_rotary_factor).unwrap_or(1.0);
        if partial != 1.0 {
            return Err(format!("`partial_rotary_factor` = {partial} is not supported, expected 1"));
        }
        let theta = rope.rope_theta.or(self.rope_theta).unwrap_or(10_000.0);
        let need = |value: Option<f64>, name: &str| value.ok_or_else(|| format!("`{key}.{name}` is missing"));
        let kind = rope.rope_type.as_deref().or(rope.r#type.as_deref()).unwrap_or("default");
        let scaling = match kind {
            "default" => None,
            "linear" => Some(RopeScaling::Linear { factor: need(rope.factor, "factor")? }),
            "llama3" => Some(RopeScaling::Llama3 {
                factor: need(rope.factor, "factor")?,
                low_freq_factor: need(rope.low_freq_factor, "low_freq_factor")?,
                high_freq_factor: need(rope.high_freq_factor, "high_freq_factor")?,
                original_max_position_embeddings: self
                    .original_max_position_embeddings
                    .or(rope.original_max_position_embeddings)
                    .unwrap_or(max_positions),
            }),
            other => {
                return Err(format!(
                    "`{key}.rope_type` = {other:?} is not supported, expected \"default\", \"linear\" or \"llama3\""
                ));
            }
        };
        Ok((theta, scaling))
    }
}

/// The text of a `config.json` for `config`, which older and newer `transformers` read alike.
///
/// - `special`: further keys, such as `eos_token_id`
///
/// # Errors
/// [`ModelError::Config`] if no supported architecture computes what `config` says.
pub fn to_json(config: &ModelConfig, dtype: &str, special: &[(&str, Value)]) -> Result<String, ModelError> {
    let family = Family::of(config)?;
    let rope_scaling = match &config.rope_scaling {
        None => Value::Null,
        Some(RopeScaling::Factors { .. }) => {
            return Err(ModelError::Config {
                key: "rope_scaling",
                value: "factors by dimension".to_string(),
                expected: "none, linear or llama3, which alone `config.json` can hold".to_string(),
            });
        }
        Some(scaling) => serde_json::to_value(scaling).unwrap_or(Value::Null),
    };
    let mut all = json!({
        "architectures": [family.architecture()],
        "model_type": family.model_type(),
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_position_embeddings,
        // The shortest decimal of the f32, not its digits as an f64.
        "rms_norm_eps": config.rms_norm_eps.to_string().parse::<f64>().unwrap_or(f64::from(config.rms_norm_eps)),
        "tie_word_embeddings": config.tie_word_embeddings,
        "rope_theta": config.rope_theta,
        "rope_scaling": rope_scaling,
        "torch_dtype": dtype,
        "bos_token_id": null,
        "eos_token_id": null,
    });
    if let Value::Object(map) = &mut all {
        if family != Family::Qwen2 {
            map.insert("attention_bias".to_string(), config.qkv_bias.into());
        }
        if family == Family::Llama {
            map.insert("mlp_bias".to_string(), config.mlp_bias.into());
        } else {
            map.insert("use_sliding_window".to_string(), false.into());
        }
        map.extend(special.iter().map(|(key, value)| ((*key).to_string(), value.clone())));
    }
    Ok(serde_json::to_string_pretty(&all).unwrap_or_default())
}
