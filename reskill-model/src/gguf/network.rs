//! Sizes and weights of a GGUF file under the names of Hugging Face.

use reskill_kernels::Device;

use super::blocks::BlockType;
use super::{Gguf, TensorInfo, Value};
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::params::Params;
use crate::rope_config::{RopeAngles, RopeScaling, frequencies};
use crate::weights::source::{Described, TensorSource, read_params};

/// Hugging Face's name of a part of a block, and GGUF's.
const BLOCK_PARTS: [(&str, &str); 11] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// Names outside the blocks.
const OTHERS: [(&str, &str); 3] =
    [("model.embed_tokens.", "token_embd."), ("model.norm.", "output_norm."), ("lm_head.", "output.")];

/// Divisors of rotary frequencies.
const ROPE_FACTORS: &str = "rope_freqs.weight";

impl<B: AsRef<[u8]>> Gguf<B> {
    /// Sizes, from the metadata and from which tensors are there.
    ///
    /// # Errors
    /// [`ModelError::Weights`] names the key that is missing or not supported.
    pub fn config(&self) -> Result<ModelConfig, ModelError> {
        let arch = self.get("general.architecture").and_then(Value::as_str).unwrap_or_default();
        if !["llama", "qwen2", "qwen3"].contains(&arch) {
            let reason = format!(
                "`general.architecture` = {arch:?} is not supported, expected \"llama\", \"qwen2\" or \"qwen3\""
            );
            return Err(self.odd(reason));
        }
        let optional = |key: &str| self.get(&format!("{arch}.{key}"));
        let size = |key: &str| {
            optional(key)
                .and_then(Value::as_usize)
                .ok_or_else(|| self.odd(format!("`{arch}.{key}` is missing or no whole number")))
        };
        for key in ["expert_count", "attention.sliding_window"] {
            if optional(key).and_then(Value::as_usize).is_some_and(|n| n > 0) {
                return Err(self.odd(format!("`{arch}.{key}` is set, which is not supported")));
            }
        }
        let heads = size("attention.head_count")?;
        let hidden_size = size("embedding_length")?;
        let head_dim = match optional("attention.key_length") {
            Some(_) => size("attention.key_length")?,
            None => hidden_size.checked_div(heads).unwrap_or_default(),
        };
        for key in ["attention.value_length", "rope.dimension_count"] {
            if optional(key).is_some() && size(key)? != head_dim {
                let reason = format!("`{arch}.{key}` = {}, expected the head size {head_dim}", size(key)?);
                return Err(self.odd(reason));
            }
        }
        let number = |key: &str| optional(key).and_then(Value::as_f64);
        let has = |name: &str| self.tensors.contains_key(name);
        let Some([vocab_size, _]) = self.tensors.get("token_embd.weight").map(|info| info.shape.as_slice())
        else {
            return Err(self.odd("`token_embd.weight` is missing or no matrix"));
        };
        let mut config = ModelConfig {
            vocab_size: *vocab_size,
            hidden_size,
            intermediate_size: size("feed_forward_length")?,
            num_hidden_layers: size("block_count")?,
            num_attention_heads: heads,
            num_key_value_heads: self.kv_heads(&format!("{arch}.attention.head_count_kv"), heads)?,
            head_dim,
            max_position_embeddings: size("context_length")?,
            rope_theta: number("rope.freq_base").unwrap_or(10_000.0),
            rms_norm_eps: number("attention.layer_norm_rms_epsilon").unwrap_or(1e-6) as f32,
            tie_word_embeddings: !has("output.weight"),
            qkv_bias: has("blk.0.attn_q.bias"),
            out_bias: has("blk.0.attn_output.bias"),
            mlp_bias: has("blk.0.ffn_gate.bias"),
            qk_norm: arch == "qwen3",
            rope_angles: RopeAngles::F32,
            rope_scaling: None,
        };
        config.validate().map_err(|source| self.odd(source.to_string()))?;
        config.rope_scaling = self.rope_scaling(arch, &config)?;
        config.validate().map_err(|source| self.odd(source.to_string()))?;
        Ok(config)
    }

    /// Weights, widened to f32 and laid out as Hugging Face has them, on `device` in its precision.
    ///
    /// # Errors
    /// [`ModelError::Weights`] lists every tensor that is missing, not expected, or odd; [`ModelError::Kernel`] if the
    /// device has no room.
    pub fn params(&self, device: &Device) -> Result<Params, ModelError> {
        read_params(&self.config()?, self, &self.path, device)
    }

    /// One number, or the same number for every block.
    fn kv_heads(&self, key: &str, heads: usize) -> Result<usize, ModelError> {
        let odd = || self.odd(format!("`{key}` is not one number for all blocks"));
        match self.get(key) {
            None => Ok(heads),
            Some(Value::List(list)) => {
                let first = list.first().ok_or_else(odd)?;
                if list.iter().all(|value| value == first) {
                    first.as_usize().ok_or_else(odd)
                } else {
                    Err(odd())
                }
            }
            Some(value) => value.as_usize().ok_or_else(odd),
        }
    }

    fn rope_scaling(&self, arch: &str, config: &ModelConfig) -> Result<Option<RopeScaling>, ModelError> {
        if let Some(info) = self.tensors.get(ROPE_FACTORS) {
            if info.shape != [config.head_dim / 2] || BlockType::of(info.ggml_type) != Some(BlockType::F32) {
                return Err(self.odd(format!("`{ROPE_FACTORS}` must be F32 [{}]", config.head_dim / 2)));
            }
            let mut factors = vec![0.0; config.head_dim / 2];
            BlockType::F32.widen(&self.bytes.as_ref()[info.data.clone()], &mut factors);
            return Ok(Some(recognised(&factors, config)));
        }
        let text = |key: &str| self.get(&format!("{arch}.rope.scaling.{key}"));
        match text("type").and_then(Value::as_str).unwrap_or("none") {
            "none" => Ok(None),
            "linear" => {
                let factor = text("factor").and_then(Value::as_f64);
                let factor =
                    factor.ok_or_else(|| self.odd(format!("`{arch}.rope.scaling.factor` is missing")))?;
                Ok(Some(RopeScaling::Linear { factor }))
            }
            other => Err(self.odd(format!(
                "`{arch}.rope.scaling.type` = {other:?} is not supported, expected \"none\" or \"linear\""
            ))),
        }
    }

    /// The file's name of a tensor.
    fn gguf_name(name: &str) -> Option<String> {
        for (theirs, ours) in OTHERS {
            if let Some(kind) = name.strip_prefix(theirs) {
                return Some(format!("{ours}{kind}"));
            }
        }
        let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let (part, kind) = part.rsplit_once('.')?;
        let (_, ours) = BLOCK_PARTS.iter().find(|(theirs, _)| *theirs == part)?;
        Some(format!("blk.{layer}.{ours}.{kind}"))
    }

    /// Hugging Face's name of a tensor; its own, if there is none.
    fn hf_name(name: &str) -> String {
        for (theirs, ours) in OTHERS {
            if let Some(kind) = name.strip_prefix(ours) {
                return format!("{theirs}{kind}");
            }
        }
        let block = || {
            let (layer, part) = name.strip_prefix("blk.")?.split_once('.')?;
            let (part, kind) = part.rsplit_once('.')?;
            let (theirs, _) = BLOCK_PARTS.iter().find(|(_, ours)| *ours == part)?;
            Some(format!("model.layers.{layer}.{theirs}.{kind}"))
        };
        block().unwrap_or_else(|| name.to_string())
    }

    fn find(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(&Self::gguf_name(name)?)
    }

    /// Heads of a projection whose rows llama.cpp has permuted: it rotates neighbours, not halves.
    fn permuted_heads(&self, name: &str) -> Option<usize> {
        if self.get("general.architecture").and_then(Value::as_str) != Some("llama") {
            return None;
        }
        let config = self.config().ok()?;
        if name.contains("self_attn.q_proj") {
            return Some(config.num_attention_heads);
        }
        name.contains("self_attn.k_proj").then_some(config.num_key_value_heads)
    }
}

impl<B: AsRef<[u8]>> TensorSource for Gguf<B> {
    fn describe(&self, name: &str) -> Option<Described> {
        let info = self.find(name)?;
        let kind = BlockType::of(info.ggml_type);
        let dtype = kind.map_or_else(|| format!("ggml type {}", info.ggml_type), |kind| format!("{kind:?}"));
        Some(Described { dtype, readable: kind.is_some(), shape: info.shape.clone() })
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().filter(|name| *name != ROPE_FACTORS).map(|name| Self::hf_name(name)).collect()
    }

    fn read(&self, name: &str, to: &mut [f32]) {
        let Some((info, kind)) =
            self.find(name).and_then(|info| Some((info, BlockType::of(info.ggml_type)?)))
        else {
            return;
        };
        kind.widen(self.bytes.as_ref().get(info.data.clone()).unwrap_or_default(), to);
        if let Some(heads) = self.permuted_heads(name) {
            let rows = info.shape.first().copied().unwrap_or(1);
            unpermute(to, heads, rows / heads, to.len() / rows);
        }
    }
}

/// Row `2j + i` of a head becomes row `i D/2 + j`.
fn unpermute(weight: &mut [f32], heads: usize, head_dim: usize, inputs: usize) {
    let mut head_rows = vec![0.0; head_dim * inputs];
    for head in weight.chunks_exact_mut(head_dim * inputs).take(heads) {
        head_rows.copy_from_slice(head);
        for (row, from) in head_rows.chunks_exact(inputs).enumerate() {
            let to = row % 2 * (head_dim / 2) + row / 2;
            head[to * inputs..(to + 1) * inputs].copy_from_slice(from);
        }
    }
}

/// The Llama 3 rule that gives these divisors, if one with its published numbers does: it can be saved in `config.json`.
fn recognised(factors: &[f32], config: &ModelConfig) -> RopeScaling {
    let factor = f64::from(factors.iter().copied().fold(1.0, f32::max));
    let rule = RopeScaling::Llama3 {
        factor,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    let plain = frequencies(&ModelConfig { rope_scaling: None, ..config.clone() });
    let scaled = frequencies(&ModelConfig { rope_scaling: Some(rule.clone()), ..config.clone() });
    let same = plain.iter().zip(&scaled).zip(factors).all(|((plain, scaled), &factor)| {
        // Divisors are f32 that were computed by way of wavelengths.
        (plain / scaled / factor - 1.0).abs() < 1e-4
    });
    if same { rule } else { RopeScaling::Factors { factors: factors.to_vec() } }
}
