//! Turns a checkpoint, such as a GGUF file, into a folder that `transformers` loads.
//!
//! `cargo run --release -p reskill-model --example convert -- MODEL OUT [bf16]`
#![expect(clippy::print_stderr, reason = "a program for the command line")]

use std::path::Path;
use std::process::ExitCode;

use reskill_model::weights::{Precision, SaveOptions};
use reskill_model::{ModelError, Pretrained};

fn convert(model: &str, out: &str, precision: Precision) -> Result<(), ModelError> {
    let pretrained = Pretrained::open(Path::new(model))?;
    let options = SaveOptions { precision, ..SaveOptions::default() };
    pretrained.save(&pretrained.model()?, Path::new(out), &options)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [model, out] => convert(model, out, Precision::F32),
        [model, out, "bf16"] => convert(model, out, Precision::Bf16),
        _ => {
            eprintln!("usage: convert MODEL OUT [bf16]");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
