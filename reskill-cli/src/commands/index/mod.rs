//! `reskill-cli index`: search indexes over files of passages.

mod build;
mod query;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Builds and queries search indexes
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  reskill-cli index build --corpus corpus.jsonl.gz --out wiki.index
  reskill-cli index build --corpus corpus.jsonl.gz --out wiki.index --dense MODEL_DIR
  reskill-cli index query --index wiki.index 'who wrote the first program?'
  reskill-cli index query --index wiki.index --corpus corpus.jsonl.gz --dense MODEL_DIR --ranking hybrid --json QUERY

Exit codes: 0 done, 2 an error: one line says what and what to do.")]
pub struct IndexArgs {
    #[command(subcommand)]
    command: IndexCommand,
}

#[derive(Debug, Subcommand)]
enum IndexCommand {
    Build(build::BuildArgs),
    Query(query::QueryArgs),
}

/// Runs the command; the result is the exit code.
///
/// # Errors
/// One line for the person who typed the command.
pub fn run(args: &IndexArgs) -> Result<u8> {
    match &args.command {
        IndexCommand::Build(args) => build::run(args),
        IndexCommand::Query(args) => query::run(args),
    }
}
