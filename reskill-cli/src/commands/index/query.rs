//! `reskill-cli index query`: looks something up in an index.

use std::fmt::Write;
use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use reskill_envs::search::{EmbeddedRetriever, Embedder, Passage, Ranking, Retriever, SearchIndex};
use serde_json::json;

use crate::progress::print_data;
use crate::sentence_embedder::SentenceEmbedder;

/// Prints the best passages of an index
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  reskill-cli index query --index wiki.index 'who wrote the first program?'
  reskill-cli index query --index wiki.index --top-k 5 --json - < questions.txt")]
pub(super) struct QueryArgs {
    /// The index
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
    /// Makes sure that the index was built from this file
    #[arg(long, value_name = "FILE")]
    corpus: Option<PathBuf>,
    /// What passages are ranked by; `hybrid` where a model is given, else `bm25`
    #[arg(long, value_enum)]
    ranking: Option<RankingChoice>,
    /// The sentence-embedding model that the vectors were made with
    #[arg(long, value_name = "MODEL_DIR")]
    dense: Option<PathBuf>,
    /// Passages a query
    #[arg(long, value_name = "N", default_value_t = 3)]
    top_k: usize,
    /// One JSON object a query: {\"query\",\"seconds\",\"passages\":[{\"title\",\"text\",\"score\"}]}
    #[arg(long)]
    json: bool,
    /// The queries, or `-` for one a line of standard input
    #[arg(required = true, value_name = "QUERY")]
    queries: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RankingChoice {
    /// By words
    Bm25,
    /// By vectors
    Dense,
    /// By both
    Hybrid,
}

pub(super) fn run(args: &QueryArgs) -> Result<u8> {
    if !(1..=1000).contains(&args.top_k) {
        bail!("--top-k {}: expected 1 to 1000", args.top_k);
    }
    let ranking = match (args.ranking, &args.dense) {
        (Some(RankingChoice::Bm25), _) | (None, None) => Ranking::Bm25,
        (Some(RankingChoice::Dense), _) => Ranking::Dense,
        (Some(RankingChoice::Hybrid), _) | (None, Some(_)) => Ranking::Hybrid,
    };
    let embedder: Option<Arc<dyn Embedder>> = match (&args.dense, ranking) {
        (_, Ranking::Bm25) => None,
        (Some(dir), _) => Some(Arc::new(SentenceEmbedder::open(dir)?)),
        (None, _) => bail!("--dense is missing: give the model that the vectors were made with"),
    };
    let index = SearchIndex::open(&args.index, args.corpus.as_deref())?;
    let retriever = EmbeddedRetriever::new(Arc::new(index), ranking, embedder)?;
    let ask = |query: &str| -> Result<bool> {
        let start = Instant::now();
        let passages = retriever.retrieve(&[query], args.top_k)?.pop().unwrap_or_default();
        let seconds = start.elapsed().as_secs_f64();
        Ok(print_data(answer(query, &passages, seconds, args.json)?.as_bytes())?)
    };
    for query in &args.queries {
        if query != "-" {
            if !ask(query)? {
                return Ok(0);
            }
            continue;
        }
        for line in std::io::stdin().lock().lines() {
            let line = line.context("standard input cannot be read")?;
            if !line.trim().is_empty() && !ask(&line)? {
                return Ok(0);
            }
        }
    }
    Ok(0)
}

fn answer(query: &str, passages: &[Passage], seconds: f64, as_json: bool) -> Result<String> {
    let mut text = String::new();
    if as_json {
        let passages: Vec<_> = passages
            .iter()
            .map(|Passage { title, text, score }| json!({ "title": title, "text": text, "score": score }))
            .collect();
        writeln!(text, "{}", json!({ "query": query, "seconds": seconds, "passages": passages }))?;
        return Ok(text);
    }
    writeln!(text, "{query}  ({:.2} ms)", seconds * 1e3)?;
    for (passage, rank) in passages.iter().zip(1..) {
        writeln!(text, "{rank:>4}  {:<8.4} {}\n      {}", passage.score, passage.title, passage.text)?;
    }
    writeln!(text)?;
    Ok(text)
}
