//! Sentence embeddings are those of sentence-transformers (fixtures/make_sentence.py).

use std::path::{Path, PathBuf};

use reskill_model::ModelError;
use reskill_model::sentence_encoder::SentenceEncoder;
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
    vectors: Vec<Vec<f32>>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sentence")
}

fn check_parity(model: &Path, expected: &str, tolerance: f32) {
    let encoder = SentenceEncoder::open(model).unwrap();
    let expected = std::fs::read_to_string(fixtures().join(expected)).unwrap();
    let expected: Expected = serde_json::from_str(&expected).unwrap();
    let texts: Vec<&str> = expected.texts.iter().map(String::as_str).collect();
    let vectors = encoder.embed(&texts).unwrap();
    for (index, text) in texts.iter().enumerate() {
        assert_eq!(encoder.token_ids(text).unwrap(), expected.ids[index], "{text}");
        assert_eq!(vectors[index].len(), encoder.dimensions());
        for (found, expected) in vectors[index].iter().zip(&expected.vectors[index]) {
            assert!((found - expected).abs() <= tolerance, "{text}: {found}, expected {expected}");
        }
        // Alone, to the bit.
        assert_eq!(encoder.embed(&[text]).unwrap()[0], vectors[index], "{text}");
    }
}

#[test]
fn vectors_of_a_tiny_model_equal_those_of_sentence_transformers() {
    // Two blocks in f32 with numbers around 1: a few units in the last place of 1e-7 each.
    check_parity(&fixtures().join("tiny"), "tiny.json", 5e-6);
}

#[test]
fn vectors_of_minilm_equal_those_of_sentence_transformers() {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    let fetched = cache.map(|cache| cache.join("reskill/all-MiniLM-L6-v2"));
    let model = std::env::var_os("RESKILL_MINILM").map(PathBuf::from).or(fetched);
    // scripts/get-minilm fetches it; without it there is nothing to compare.
    if let Some(model) = model.filter(|model| model.join("model.safetensors").is_file()) {
        check_parity(&model, "minilm.json", 5e-6);
    }
}

#[test]
fn nothing_to_embed_gives_nothing() {
    let encoder = SentenceEncoder::open(&fixtures().join("tiny")).unwrap();
    assert!(encoder.embed(&[]).unwrap().is_empty());
}

#[test]
fn folders_that_hold_another_model_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(fixtures().join("tiny").join(file), dir.path().join(file)).unwrap();
    }
    let config = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
    let refused = |from: &str, to: &str| {
        assert!(config.contains(from), "{from}");
        std::fs::write(dir.path().join("config.json"), config.replacen(from, to, 1)).unwrap();
        SentenceEncoder::open(dir.path()).unwrap_err().to_string()
    };
    for (from, to, fragment) in [
        ("\"model_type\": \"bert\"", "\"model_type\": \"llama\"", "`model_type`"),
        ("\"gelu\"", "\"relu\"", "`hidden_act`"),
        ("\"hidden_size\": 24", "\"hidden_size\": 25", "no multiple"),
        ("\"hidden_size\": 24", "\"hidden_size\": 48", "word_embeddings"),
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "encoder.layer.2"),
    ] {
        let message = refused(from, to);
        assert!(message.contains(fragment), "`{fragment}` is not in: {message}");
    }
    let missing = SentenceEncoder::open(&dir.path().join("nowhere")).unwrap_err();
    assert!(matches!(missing, ModelError::File { .. }), "{missing}");
}
