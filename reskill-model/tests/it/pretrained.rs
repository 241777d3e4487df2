//! Whole checkpoints: GGUF files and folders, read, written and read again.

use std::path::{Path, PathBuf};

use reskill_kernels::{Device, Tensor, ops};
use reskill_model::weights::{Precision, SaveOptions};
use reskill_model::{PackedBatch, Pretrained, RopeScaling, Transformer, Workspace, hf_config};
use serde_json::Value;

use crate::parity::{CASES, folder, load};

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

pub(crate) fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub(crate) fn ids(json: &Value) -> Vec<u32> {
    serde_json::from_value(json.clone()).unwrap()
}

pub(crate) fn logits(model: &Transformer, tokens: &[u32]) -> Tensor {
    let mut workspace = Workspace::new(model.config()).unwrap();
    let hidden = model.forward(&mut workspace, &PackedBatch::causal(tokens).unwrap()).unwrap();
    let mut logits = Tensor::zeros(&[tokens.len(), model.config().vocab_size], &Device::Cpu).unwrap();
    ops::matmul(&mut logits, hidden, model.params().head(), false).unwrap();
    logits
}

/// Logits of the last two tokens, and ids of odd texts, as the Python packages have them.
fn check_gguf(name: &str) -> Pretrained {
    let pretrained = Pretrained::open(&fixture(&format!("{name}.gguf"))).unwrap();
    let expected = json(&fixture(&format!("{name}.json")));
    let model = pretrained.model().unwrap();
    let tokens = ids(&expected["tokens"]);
    let logits = logits(&model, &tokens);
    let want: Vec<Vec<f32>> = serde_json::from_value(expected["logits"].clone()).unwrap();
    let got = &logits.as_slice()[(tokens.len() - 2) * model.config().vocab_size..];
    for (got, want) in got.iter().zip(want.concat()) {
        // Logits of size 3, rounded to seven digits in the fixture.
        assert!((got - want).abs() <= 2e-5, "{name}: {got} for {want}");
    }
    let tokenizer = pretrained.tokenizer().unwrap();
    for case in expected["encoded"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode_text(text).unwrap(), ids(&case["ids"]), "{name}: {text:?}");
    }
    pretrained
}

#[test]
fn gguf_with_every_quantised_type_equals_transformers_and_tokenizers() {
    let pretrained = check_gguf("tiny-llama");
    // The factors by dimension are recognised as the rule that made them.
    assert_eq!(
        pretrained.config().rope_scaling,
        Some(RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192
        })
    );
    assert!(!pretrained.config().tie_word_embeddings);
}

#[test]
fn gguf_of_qwen3_in_half_precision_equals_transformers_and_tokenizers() {
    let pretrained = check_gguf("tiny-qwen3");
    assert!(pretrained.config().qk_norm && pretrained.config().tie_word_embeddings);
    assert_eq!(pretrained.config().head_dim, 10);
}

#[test]
fn a_saved_checkpoint_is_the_same_again_whole_and_in_shards() {
    let dir = tempfile::tempdir().unwrap();
    for (name, max_shard_bytes) in [("tiny-llama", 5_000_000_000), ("tiny-qwen3", 30_000)] {
        let pretrained = Pretrained::open(&fixture(&format!("{name}.gguf"))).unwrap();
        let model = pretrained.model().unwrap();
        let out = dir.path().join(name);
        let options = SaveOptions { precision: Precision::F32, max_shard_bytes };
        pretrained.save(&model, &out, &options).unwrap();
        assert_eq!(out.join("model.safetensors").is_file(), name == "tiny-llama");
        let again = Pretrained::open(&out).unwrap();
        assert_eq!(again.config(), pretrained.config());
        assert_eq!(again.end_tokens(), pretrained.end_tokens());
        assert_eq!(again.model().unwrap().params(), model.params());
        let text = "two  spaces 12345\n café";
        assert_eq!(
            again.tokenizer().unwrap().encode_text(text).unwrap(),
            pretrained.tokenizer().unwrap().encode_text(text).unwrap()
        );
        // A second saving, of a folder this time, in half the bytes.
        let half = dir.path().join(format!("{name}-half"));
        let options = SaveOptions { precision: Precision::Bf16, ..options };
        again.save(&model, &half, &options).unwrap();
        let rounded = Pretrained::open(&half).unwrap().model().unwrap();
        for (rounded, exact) in rounded.params().embed.as_slice().iter().zip(model.params().embed.as_slice())
        {
            // bf16 keeps eight bits.
            assert!((rounded - exact).abs() <= exact.abs() / 256.0);
        }
    }
}

#[test]
fn a_written_config_reads_as_the_same_network() {
    for case in CASES {
        let (config, _) = load(case);
        let text = hf_config::to_json(&config, "float32", &[]).unwrap();
        assert_eq!(hf_config::from_json(&text, Path::new("config.json")).unwrap(), config, "{case}");
    }
}

#[test]
fn configs_of_other_networks_are_refused_by_name() {
    let path = folder("qwen2-sharded").join("config.json");
    let refused = |key: &str, value: Value| {
        let mut config = json(&path);
        config[key] = value;
        hf_config::from_json(&config.to_string(), Path::new("config.json")).unwrap_err().to_string()
    };
    let cases = [
        ("model_type", "mistral".into(), "`model_type` = \"mistral\" is not supported"),
        ("hidden_act", "gelu".into(), "`hidden_act` = \"gelu\" is not supported"),
        ("layer_types", serde_json::json!(["full_attention", "sliding_attention"]), "\"sliding_attention\""),
        (
            "rope_scaling",
            serde_json::json!({ "type": "yarn", "factor": 4.0 }),
            "`rope_scaling.rope_type` = \"yarn\"",
        ),
        ("quantization_config", serde_json::json!({ "bits": 4 }), "`quantization_config` is set"),
        (
            "hidden_size",
            (1_u64 << 60).into(),
            "`hidden_size` = 1152921504606846976, expected at most 16777216",
        ),
        ("num_hidden_layers", (1_u64 << 60).into(), "`num_hidden_layers` = 1152921504606846976"),
        ("num_attention_heads", 0.into(), "`num_attention_heads` = 0, expected a positive number"),
        ("partial_rotary_factor", 0.5.into(), "`partial_rotary_factor` = 0.5 is not supported"),
    ];
    for (key, value, want) in cases {
        let message = refused(key, value);
        assert!(message.starts_with("config.json: ") && message.contains(want), "{key}: {message}");
    }
    // A window that is switched off changes nothing.
    let mut config = json(&path);
    config["layer_types"] = Value::Null;
    config["sliding_window"] = 16.into();
    assert!(hf_config::from_json(&config.to_string(), Path::new("config.json")).is_ok());
    config["use_sliding_window"] = true.into();
    config["max_window_layers"] = 1.into();
    assert!(hf_config::from_json(&config.to_string(), Path::new("config.json")).is_err());
}
