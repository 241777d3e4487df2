//! `reskill-cli score`: log-probabilities of texts under a pretrained model.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use reskill_model::score::token_logprobs;
use reskill_model::{Pretrained, Workspace};
use serde::Serialize;

use crate::device::DeviceArgs;
use crate::model_source;

/// Prints the log-probability of every token of a text, given those before it.
#[derive(Debug, Args)]
#[command(
    after_help = "Prints one JSON line a text: {\"ids\":[...],\"logprobs\":[null,...]}, natural logarithms; the \
first token has none. A text is encoded as the model's tokenizer does by itself, with the tokens it puts around it.

Examples:
  reskill-cli score --model SmolLM2-135M-Instruct.Q4_1.gguf --text-file texts.txt
  reskill-cli score --model DIR --ids-file ids.json
  reskill-cli score --model SmolLM2-135M-Instruct.Q4_1.gguf --adapter runs/one/policy --text-file texts.txt

Exit codes: 0 done, 2 an error: one line says what and what to do."
)]
pub struct ScoreArgs {
    /// A folder with config.json and safetensors, a .gguf file, or org/name[@revision] on the Hugging Face hub.
    #[arg(long, value_name = "DIR|FILE|NAME")]
    model: PathBuf,
    /// A folder with adapter_config.json and adapter_model.safetensors: an adapter of PEFT, or policy/ of a run that trained
    /// one. It is put beside the model.
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Texts, one a line.
    #[arg(long, value_name = "FILE", required_unless_present = "ids_file", conflicts_with = "ids_file")]
    text_file: Option<PathBuf>,
    /// A JSON list of lists of token ids.
    #[arg(long, value_name = "FILE")]
    ids_file: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Serialize)]
struct Scored<'a> {
    ids: &'a [u32],
    logprobs: Vec<Option<f32>>,
}

/// Runs the command; returns the exit code.
///
/// # Errors
/// If the model or the texts cannot be read, or a text does not fit the model.
pub fn run(args: &ScoreArgs) -> Result<u8> {
    let device = args.device.open()?;
    let pretrained = Pretrained::open(&model_source::locate_argument(&args.model)?)?;
    let texts = read_ids(args, &pretrained)?;
    let model = model_source::read(&pretrained, args.adapter.as_deref(), &device)?;
    let mut workspace = Workspace::recomputing_on(&device, model.config())?;
    let mut out = std::io::stdout().lock();
    for (index, ids) in texts.iter().enumerate() {
        let logprobs = token_logprobs(&model, &mut workspace, ids)
            .with_context(|| format!("text {} cannot be scored", index + 1))?;
        let first = ids.first().map(|_| None);
        let scored =
            Scored { ids, logprobs: first.into_iter().chain(logprobs.into_iter().map(Some)).collect() };
        let line = serde_json::to_string(&scored).context("a result cannot be written as JSON")?;
        writeln!(out, "{line}").context("the result cannot be written")?;
    }
    Ok(0)
}

fn read_ids(args: &ScoreArgs, pretrained: &Pretrained) -> Result<Vec<Vec<u32>>> {
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))
    };
    if let Some(path) = &args.ids_file {
        return serde_json::from_str(&read(path)?)
            .with_context(|| format!("{}: is no JSON list of lists of token ids", path.display()));
    }
    let Some(path) = &args.text_file else { return Ok(Vec::new()) };
    let tokenizer = pretrained.tokenizer()?;
    let text = read(path)?;
    // Only a line feed ends a line, and the last one may lack it.
    let body = text.strip_suffix('\n').unwrap_or(&text);
    if text.is_empty() {
        return Ok(Vec::new());
    }
    body.split('\n').map(|line| Ok(tokenizer.encode_text(line)?)).collect()
}
