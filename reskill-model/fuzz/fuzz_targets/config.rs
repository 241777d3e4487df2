//! Any text as a `config.json`; what is accepted can be written and read again.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use reskill_model::hf_config;

fuzz_target!(|text: &str| {
    if let Ok(config) = hf_config::from_json(text, Path::new("config.json")) {
        config.validate().expect("what was read is valid");
        let written = hf_config::to_json(&config, "float32", &[]).expect("what was read can be written");
        assert_eq!(hf_config::from_json(&written, Path::new("config.json")).expect("and read"), config);
    }
});
