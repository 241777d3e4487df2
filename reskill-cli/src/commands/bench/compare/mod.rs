//! `reskill-cli bench compare`: measurements beside each other, ours and those of other programs, or before and after.

mod lines;
mod pairs;
mod table;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use self::lines::{Case, LeftOut, Lines, Measured};
use self::pairs::{Pair, pairs};
use super::print_json;
use crate::progress::{print_data, print_line};

/// Sets measurements beside each other: operation by operation, ours and others'.
#[derive(Debug, Args)]
#[command(
    after_help = "Files hold JSON lines of `bench kernels --json`, of scripts/gpu-peers, of `bench cpu` with its peers, or several of them;
other lines are passed over. Two files with lines of ours are before and after: `other` is the first. `other/ours` above 1 says
that ours, or the second file, is quicker; inside twice the noise it is inconclusive. Repeated measurements of a case count by
their median, and how far they are apart is noise too. Products by several back ends: `own` is ours, the others stand beside it.
A program whose forward and backward pass cannot be taken apart is set beside both of ours.

Examples:
  reskill-cli bench kernels --device cuda --dtype bf16 --json > ours.jsonl
  scripts/gpu-peers ours.jsonl > peers.jsonl
  reskill-cli bench compare ours.jsonl peers.jsonl
  reskill-cli bench compare before.jsonl after.jsonl --json"
)]
pub(super) struct CompareArgs {
    /// JSON lines of measurements
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// One JSON line a pair on stdout instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs `bench compare`; the result is the exit code.
///
/// # Errors
/// One line for the person who typed the command: a file that cannot be read or holds no measurements, or nothing to compare.
pub(super) fn run(args: &CompareArgs) -> Result<u8> {
    let files = args.files.iter().map(|path| Lines::read(path)).collect::<Result<Vec<_>>>()?;
    let found = pairs(&files)?;
    if found.is_empty() {
        bail!("nothing to compare: no operation was measured on both sides with one shape, storage and mode");
    }
    for note in notes(&files) {
        print_line(&note);
    }
    if args.json {
        found.iter().for_each(|pair| print_json(&pair.json()));
        return Ok(0);
    }
    print_data(table::table(&found).as_bytes())?;
    for LeftOut { who, op, reason } in files.iter().flat_map(|file| &file.left_out) {
        print_line(&format!("left out: {op} of {who}: {reason}"));
    }
    Ok(0)
}

/// What a reader of the numbers should know first.
fn notes(files: &[Lines]) -> Vec<String> {
    let mut notes = Vec::new();
    let mut devices: Vec<&str> = files.iter().flat_map(|file| &file.devices).map(String::as_str).collect();
    devices.sort_unstable();
    devices.dedup();
    if devices.len() > 1 {
        notes.push(format!("note: measured on several devices: {}", devices.join("; ")));
    }
    let wrong: usize = files.iter().map(|file| file.n_wrong).sum();
    if wrong > 0 {
        notes.push(format!("note: {wrong} of the measurements are of wrong results"));
    }
    notes
}
