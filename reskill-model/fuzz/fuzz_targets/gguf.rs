//! Any bytes as a GGUF file: header, sizes, tokenizer.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use reskill_model::gguf::Gguf;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(gguf) = Gguf::parse(bytes, Path::new("fuzz.gguf")) {
        let _ = gguf.config();
        let _ = gguf.tokenizer_json();
        let _ = gguf.params(&reskill_kernels::Device::Cpu);
    }
});
