//! The tokenizer of a GGUF file as a `tokenizer.json`.

use serde_json::{Map, Value as Json, json};

use super::{Gguf, Value};
use crate::error::ModelError;

/// What stands for a kind of token in the file.
const CONTROL: i128 = 3;
const USER_DEFINED: i128 = 4;

/// How Qwen2 cuts text before merging.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// How Llama 3 does: as Qwen2, with up to three digits together.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Ways to cut text before merging.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Splitter {
    Gpt2,
    SmolLm,
    Qwen2,
    Llama3,
}

impl Splitter {
    fn named(pre: &str) -> Option<Splitter> {
        match pre {
            "default" | "gpt-2" | "gpt2" => Some(Splitter::Gpt2),
            "smollm" => Some(Splitter::SmolLm),
            "qwen2" | "deepseek-r1-qwen" => Some(Splitter::Qwen2),
            "llama-bpe" | "llama3" | "llama-v3" => Some(Splitter::Llama3),
            _ => None,
        }
    }

    fn json(self) -> Json {
        let bytes = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex });
        let split = |regex: &str| json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false });
        match self {
            Splitter::Gpt2 => bytes(true),
            Splitter::SmolLm => {
                let digits = json!({ "type": "Digits", "individual_digits": true });
                json!({ "type": "Sequence", "pretokenizers": [digits, bytes(true)] })
            }
            Splitter::Qwen2 => json!({ "type": "Sequence", "pretokenizers": [split(QWEN2), bytes(false)] }),
            Splitter::Llama3 => json!({ "type": "Sequence", "pretokenizers": [split(LLAMA3), bytes(false)] }),
        }
    }
}

impl<B: AsRef<[u8]>> Gguf<B> {
    /// The tokenizer as the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] if it is of a kind that is not supported, or damaged.
    pub fn tokenizer_json(&self) -> Result<String, ModelError> {
        let odd =
            |reason: String| ModelError::Tokenizer { reason: format!("{}: {reason}", self.path.display()) };
        let text = |key: &str| self.get(&format!("tokenizer.ggml.{key}")).and_then(Value::as_str);
        let model = text("model").unwrap_or_default();
        if model != "gpt2" {
            return Err(odd(format!(
                "`tokenizer.ggml.model` = {model:?} is not supported, expected \"gpt2\"; use the checkpoint's folder, \
                 which has a tokenizer.json"
            )));
        }
        let pre = text("pre").unwrap_or("default");
        let splitter = Splitter::named(pre)
            .ok_or_else(|| odd(format!("`tokenizer.ggml.pre` = {pre:?} is not supported")))?;
        let tokens = self.texts("tokens").map_err(odd)?;
        let merges = self.texts("merges").map_err(odd)?;
        let types = self.get("tokenizer.ggml.token_type").and_then(Value::as_list).unwrap_or_default();
        let vocab: Map<String, Json> =
            tokens.iter().enumerate().map(|(id, token)| ((*token).to_string(), id.into())).collect();
        let pairs = merges
            .iter()
            .map(|merge| merge.split_once(' ').map(|(left, right)| json!([left, right])))
            .collect::<Option<Vec<Json>>>()
            .ok_or_else(|| odd("`tokenizer.ggml.merges` holds what is no pair".to_string()))?;
        let added: Vec<Json> = tokens
            .iter()
            .zip(types)
            .enumerate()
            .filter_map(|(id, (token, kind))| match kind {
                Value::Int(CONTROL) => Some(added_token(id, token, true)),
                Value::Int(USER_DEFINED) => Some(added_token(id, token, false)),
                _ => None,
            })
            .collect();
        let json = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": if splitter == Splitter::Qwen2 { json!({ "type": "NFC" }) } else { Json::Null },
            "pre_tokenizer": splitter.json(),
            "post_processor": self.post_processor(splitter, &tokens),
            "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": null,
                "continuing_subword_prefix": null,
                "end_of_word_suffix": null,
                "fuse_unk": false,
                "byte_fallback": false,
                "ignore_merges": splitter == Splitter::Llama3,
                "vocab": vocab,
                "merges": pairs,
            },
        });
        Ok(json.to_string())
    }

    fn texts(&self, key: &str) -> Result<Vec<&str>, String> {
        let list = self.get(&format!("tokenizer.ggml.{key}")).and_then(Value::as_list);
        let texts = list.and_then(|list| list.iter().map(Value::as_str).collect::<Option<Vec<&str>>>());
        texts.ok_or_else(|| format!("`tokenizer.ggml.{key}` is missing or no list of texts"))
    }

    /// Puts the tokens around a text that the file asks for.
    fn post_processor(&self, splitter: Splitter, tokens: &[&str]) -> Json {
        let token = |key: &str, add: &str, default: bool| {
            let wanted =
                self.get(&format!("tokenizer.ggml.{add}")).and_then(Value::as_bool).unwrap_or(default);
            let id = self.get(&format!("tokenizer.ggml.{key}")).and_then(Value::as_usize)?;
            Some((id, *tokens.get(id)?)).filter(|_| wanted)
        };
        let first = token("bos_token_id", "add_bos_token", splitter == Splitter::Llama3);
        let last = token("eos_token_id", "add_eos_token", false);
        let bytes = json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true });
        if first.is_none() && last.is_none() {
            return bytes;
        }
        let special = |(_, token): &(usize, &str)| json!({ "SpecialToken": { "id": token, "type_id": 0 } });
        let sequence = |id: &str| json!({ "Sequence": { "id": id, "type_id": 0 } });
        let around = |names: &[&str]| -> Vec<Json> {
            let parts = names.iter().flat_map(|name| {
                first.iter().map(special).chain([sequence(name)]).chain(last.iter().map(special))
            });
            parts.collect()
        };
        let specials: Map<String, Json> = first
            .iter()
            .chain(&last)
            .map(|(id, token)| ((*token).to_string(), json!({ "id": token, "ids": [id], "tokens": [token] })))
            .collect();
        json!({
            "type": "TemplateProcessing",
            "single": around(&["A"]),
            "pair": around(&["A", "B"]),
            "special_tokens": specials,
        })
    }
}

fn added_token(id: usize, token: &str, special: bool) -> Json {
    json!({
        "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": special,
    })
}
