//! Any bytes as the safetensors of a small model.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use reskill_model::ModelConfig;
use reskill_model::weights::from_safetensors;

fuzz_target!(|bytes: &[u8]| {
    let config = ModelConfig { vocab_size: 3, hidden_size: 4, num_hidden_layers: 1, ..ModelConfig::tiny() };
    let _ = from_safetensors(&config, bytes, Path::new("fuzz.safetensors"));
});
