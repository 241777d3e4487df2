//! `skills diff`: what has to be done to get from one bank to another.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::FOUND;
use super::source::{bank, print, print_json};

/// Compares two banks, skill by skill (by id)
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  reskill-cli skills diff runs/one runs/two
  reskill-cli skills diff my-skills runs/one --exit-code --json
  
  Exit codes: 0 done, 1 a difference with --exit-code, 2 an error.")]
pub(super) struct DiffArgs {
    /// Run directory or folder of Agent Skills
    before: PathBuf,
    /// Run directory or folder of Agent Skills
    after: PathBuf,
    /// Prints JSON: skills that were added, modified (before, after), deleted
    #[arg(long)]
    json: bool,
    /// Ends with 1 if there is a difference
    #[arg(long)]
    exit_code: bool,
}

pub(super) fn run(args: &DiffArgs) -> Result<u8> {
    let diff = bank(&args.before)?.diff(&bank(&args.after)?);
    if args.json {
        print_json(&diff)?
    } else {
        print(&diff.to_string())?
    }
    Ok(if args.exit_code && !diff.is_empty() { FOUND } else { 0 })
}
