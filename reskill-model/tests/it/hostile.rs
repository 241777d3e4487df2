//! Damaged and hostile files: an error each, no panic, no memory beyond the file's size.

use std::path::Path;

use rand::RngExt;
use reskill_model::gguf::Gguf;
use reskill_model::hf_config;
use reskill_model::weights::from_safetensors;

use crate::parity::{folder, load};
use crate::pretrained::fixture;
use crate::support::rng;

/// What the fuzz targets run, too: parse, and if that succeeds, all that follows.
fn parse_gguf(bytes: &[u8]) -> bool {
    let Ok(gguf) = Gguf::parse(bytes, Path::new("x.gguf")) else { return false };
    let (config, tokenizer) = (gguf.config(), gguf.tokenizer_json());
    let params = gguf.params(&reskill_kernels::Device::Cpu);
    config.is_ok() && tokenizer.is_ok() && params.is_ok()
}

/// Copies of `bytes` with a few bytes of the first `header` changed, or cut short.
fn damaged(bytes: &[u8], header: usize, n: usize) -> Vec<Vec<u8>> {
    let mut rng = rng(9);
    let one = |_| {
        let mut copy = bytes.to_vec();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..header.min(copy.len()));
            copy[at] = [0, 1, 0x7f, 0x80, 0xff, rng.random()][rng.random_range(0..6)];
        }
        if rng.random_range(0..4) == 0 {
            copy.truncate(rng.random_range(0..header));
        }
        copy
    };
    (0..n).map(one).collect()
}

#[test]
fn damaged_gguf_headers_are_errors_or_harmless() {
    let bytes = std::fs::read(fixture("tiny-qwen3.gguf")).unwrap();
    assert!(parse_gguf(&bytes));
    let refused = damaged(&bytes, 400, 400).iter().filter(|copy| !parse_gguf(copy)).count();
    assert!(refused > 100, "{refused}");
}

#[test]
fn gguf_sizes_beyond_the_file_are_refused() {
    let header = |n_tensors: u64, n_values: u64, rest: &[u8]| {
        [b"GGUF", &3_u32.to_le_bytes()[..], &n_tensors.to_le_bytes(), &n_values.to_le_bytes(), rest].concat()
    };
    let message = |bytes: &[u8]| Gguf::parse(bytes, Path::new("x.gguf")).unwrap_err().to_string();
    assert_eq!(message(b"GGML"), "x.gguf: is no GGUF file");
    assert_eq!(message(&header(1 << 60, 0, &[])), "x.gguf: is cut short");
    assert_eq!(message(&header(0, 1 << 60, &[])), "x.gguf: is cut short");
    // A text of 2^60 bytes.
    assert_eq!(message(&header(0, 1, &(1_u64 << 60).to_le_bytes())), "x.gguf: is cut short");
    // A list of 2^60 lists of lists ...
    let mut nested = [&1_u64.to_le_bytes()[..], b"k", &9_u32.to_le_bytes()].concat();
    for _ in 0..100 {
        nested.extend([&9_u32.to_le_bytes()[..], &(1_u64 << 60).to_le_bytes()].concat());
    }
    assert_eq!(message(&header(0, 1, &nested)), "x.gguf: metadata `k`: lists are more than 4 deep");
    // A tensor of 2^60 x 2^60, and one far behind the end.
    let tensor = |size: u64, offset: u64| {
        let axes =
            [&1_u64.to_le_bytes()[..], b"t", &2_u32.to_le_bytes(), &size.to_le_bytes(), &size.to_le_bytes()];
        header(1, 0, &[&axes.concat()[..], &0_u32.to_le_bytes(), &offset.to_le_bytes()].concat())
    };
    assert_eq!(message(&tensor(1 << 60, 0)), "x.gguf: tensor `t`: is too large");
    assert_eq!(message(&tensor(2, u64::MAX)), "x.gguf: tensor `t`: lies beyond the end of the file");
    assert_eq!(message(&tensor(2, 64)), "x.gguf: tensor `t`: lies beyond the end of the file");
}

#[test]
fn damaged_safetensors_headers_are_errors_or_harmless() {
    let (config, _) = load("qwen3");
    let bytes = std::fs::read(folder("qwen3").join("model.safetensors")).unwrap();
    let read = |bytes: &[u8]| from_safetensors(&config, bytes, Path::new("x")).is_ok();
    assert!(read(&bytes));
    let refused = damaged(&bytes, 1500, 300).iter().filter(|copy| !read(copy)).count();
    assert!(refused > 250, "{refused}");
    let header = |json: &str, data: usize| {
        [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &vec![0; data]].concat()
    };
    for (json, data) in [
        (
            r#"{"a":{"dtype":"F32","shape":[1152921504606846976,1152921504606846976],"data_offsets":[0,4]}}"#,
            4,
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}"#,
            6,
        ),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,1152921504606846976]}}"#, 4),
        (r#"{"a":{"dtype":"F9","shape":[1],"data_offsets":[0,4]}}"#, 4),
    ] {
        assert!(!read(&header(json, data)), "{json}");
    }
    assert!(!read(&header(&"[".repeat(100_000), 0)));
    assert!(!read(&u64::MAX.to_le_bytes()));
}

#[test]
fn damaged_configs_are_errors_or_harmless() {
    let bytes = std::fs::read(folder("llama3-rope").join("config.json")).unwrap();
    for copy in damaged(&bytes, bytes.len(), 500) {
        if let Ok(text) = String::from_utf8(copy)
            && let Ok(config) = hf_config::from_json(&text, Path::new("config.json"))
        {
            config.validate().unwrap();
        }
    }
    let deep = format!("{{\"rope_scaling\":{}", "{\"a\":".repeat(100_000));
    let message = hf_config::from_json(&deep, Path::new("config.json")).unwrap_err().to_string();
    assert!(message.starts_with("config.json: "), "{message}");
}
