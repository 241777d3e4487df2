//! Sizes of an encoder, from the files of a sentence-transformers folder.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::ModelError;

/// How the vectors of the tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pooling {
    /// Their mean.
    Mean,
    /// That of the first token.
    First,
}

/// Sizes, in the words of Hugging Face's `config.json`.
#[derive(Debug, Clone)]
pub(super) struct EncoderConfig {
    pub(super) vocab_size: usize,
    /// C.
    pub(super) hidden_size: usize,
    /// F.
    pub(super) intermediate_size: usize,
    /// L.
    pub(super) num_hidden_layers: usize,
    /// H.
    pub(super) num_attention_heads: usize,
    /// P.
    pub(super) max_position_embeddings: usize,
    pub(super) type_vocab_size: usize,
    pub(super) layer_norm_eps: f32,
    /// Most tokens of a text.
    pub(super) max_tokens: usize,
    pub(super) pooling: Pooling,
}

#[derive(Deserialize)]
struct RawConfig {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f32,
    hidden_act: String,
    #[serde(default)]
    position_embedding_type: Option<String>,
}

#[derive(Deserialize)]
struct RawSentence {
    max_seq_length: Option<usize>,
}

#[derive(Deserialize)]
struct RawPooling {
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
}

impl EncoderConfig {
    pub(super) fn read(dir: &Path) -> Result<EncoderConfig, ModelError> {
        let path = dir.join("config.json");
        let refuse = |reason: String| Err(ModelError::CheckpointConfig { path: path.clone(), reason });
        let Some(raw) = read_json::<RawConfig>(&path)? else {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(ModelError::File { path, action: "read", source });
        };
        if raw.model_type != "bert" {
            return refuse(format!("`model_type` = {:?}, expected \"bert\"", raw.model_type));
        }
        if raw.hidden_act != "gelu" {
            return refuse(format!("`hidden_act` = {:?}, expected \"gelu\"", raw.hidden_act));
        }
        let positions = raw.position_embedding_type.as_deref().unwrap_or("absolute");
        if positions != "absolute" {
            return refuse(format!("`position_embedding_type` = {positions:?}, expected \"absolute\""));
        }
        let sizes = [
            ("vocab_size", raw.vocab_size),
            ("hidden_size", raw.hidden_size),
            ("intermediate_size", raw.intermediate_size),
            ("num_attention_heads", raw.num_attention_heads),
            ("max_position_embeddings", raw.max_position_embeddings),
            ("type_vocab_size", raw.type_vocab_size),
        ];
        if let Some((key, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return refuse(format!("`{key}` = 0, expected at least 1"));
        }
        if !raw.hidden_size.is_multiple_of(raw.num_attention_heads) {
            let (c, h) = (raw.hidden_size, raw.num_attention_heads);
            return refuse(format!("`hidden_size` = {c} is no multiple of `num_attention_heads` = {h}"));
        }
        let longest = read_json::<RawSentence>(&dir.join("sentence_bert_config.json"))?;
        let longest = longest.and_then(|sentence| sentence.max_seq_length);
        let max_tokens = longest.unwrap_or(raw.max_position_embeddings).min(raw.max_position_embeddings);
        if max_tokens < 3 {
            return refuse(format!("texts of {max_tokens} tokens, expected at least 3"));
        }
        Ok(EncoderConfig {
            vocab_size: raw.vocab_size,
            hidden_size: raw.hidden_size,
            intermediate_size: raw.intermediate_size,
            num_hidden_layers: raw.num_hidden_layers,
            num_attention_heads: raw.num_attention_heads,
            max_position_embeddings: raw.max_position_embeddings,
            type_vocab_size: raw.type_vocab_size,
            layer_norm_eps: raw.layer_norm_eps,
            max_tokens,
            pooling: pooling(dir)?,
        })
    }
}

fn pooling(dir: &Path) -> Result<Pooling, ModelError> {
    let path = dir.join("1_Pooling/config.json");
    let Some(raw) = read_json::<RawPooling>(&path)? else { return Ok(Pooling::Mean) };
    match raw {
        RawPooling { pooling_mode_max_tokens: true, .. }
        | RawPooling { pooling_mode_mean_sqrt_len_tokens: true, .. } => {}
        RawPooling { pooling_mode_mean_tokens: true, pooling_mode_cls_token: false, .. } => {
            return Ok(Pooling::Mean);
        }
        RawPooling { pooling_mode_mean_tokens: false, pooling_mode_cls_token: true, .. } => {
            return Ok(Pooling::First);
        }
        _ => {}
    }
    let reason =
        "expected either `pooling_mode_mean_tokens` or `pooling_mode_cls_token`, and nothing else".into();
    Err(ModelError::CheckpointConfig { path, reason })
}

/// A JSON file, if it is there.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ModelError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ModelError::File { path: path.to_path_buf(), action: "read", source }),
    };
    let broken = |error: serde_json::Error| ModelError::CheckpointConfig {
        path: path.to_path_buf(),
        reason: error.to_string(),
    };
    serde_json::from_str(&text).map(Some).map_err(broken)
}
