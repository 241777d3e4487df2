//! `reskill-cli index build`: an index over a file of passages.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use reskill_envs::search::{BuildOptions, Embedder};
use serde_json::json;

use crate::progress::print_data;
use crate::search::build_with_progress;
use crate::sentence_embedder::SentenceEmbedder;

/// Builds an index
#[derive(Debug, Args)]
#[command(
    after_help = "The index is a folder that appears when it is complete. `manifest.json` in it says which corpus it \
belongs to; whoever opens it with another one is told so.

Examples:
  reskill-cli index build --corpus corpus.jsonl.gz --out wiki.index
  reskill-cli index build --corpus corpus.tsv --out wiki.index --dense MODEL_DIR --json"
)]
pub(super) struct BuildArgs {
    /// Passages: .jsonl with {\"title\",\"text\"} or {\"contents\"}, or .tsv with columns text and title; also .gz or .zst
    #[arg(long, value_name = "FILE")]
    corpus: PathBuf,
    /// The folder to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Keeps vectors as well, by this sentence-embedding model (config.json, model.safetensors, tokenizer.json)
    #[arg(long, value_name = "MODEL_DIR")]
    dense: Option<PathBuf>,
    /// Memory for words before they are written, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    memory: usize,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &BuildArgs) -> Result<u8> {
    if !(16..=4000).contains(&args.memory) {
        bail!("--memory {}: expected 16 to 4000", args.memory);
    }
    let embedder = args.dense.as_deref().map(SentenceEmbedder::open).transpose()?;
    let options = BuildOptions {
        memory_bytes: args.memory << 20,
        embedder: embedder.as_ref().map(|embedder| embedder as &dyn Embedder),
        ..BuildOptions::default()
    };
    let start = Instant::now();
    let index = build_with_progress(&args.corpus, &args.out, &options)?;
    let seconds = start.elapsed().as_secs_f64();
    let manifest = index.manifest();
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    let passages = manifest.corpus.passages;
    let line = if args.json {
        let vectors = &manifest.vectors;
        let corpus = &manifest.corpus;
        json!({ "index": args.out, "passages": passages, "bytes": bytes, "seconds": seconds, "corpus": corpus, "vectors": vectors })
            .to_string()
    } else {
        let vectors = if manifest.vectors.is_some() { "words and vectors" } else { "words" };
        let mib = bytes as f64 / f64::from(1 << 20);
        format!("{}: {vectors} of {passages} passages, {mib:.1} MiB, {seconds:.1} s", args.out.display())
    };
    print_data(format!("{line}\n").as_bytes())?;
    Ok(0)
}
