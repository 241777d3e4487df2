//! `reskill-cli export`: episodes as a table of turns, for other programs.

mod rows;
mod table;

use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use self::rows::TurnRow;
use crate::episodes::{self, EpisodeLine};
use crate::progress::{print_data, print_line};
use crate::run_dir::RunDir;

/// Writes kept episodes as a table of turns, as JSON lines or Parquet
#[derive(Debug, Args)]
#[command(
    after_help = "A row is a turn: what was seen, what could be done, which skills were shown, what was replied, whether it \
was valid, and how the episode ended. Both formats have the same columns (`episode` and `turn` number the rows).

Examples:
  reskill-cli export runs/one --format parquet            runs/one/episodes.parquet
  reskill-cli export runs/one --played training           one JSON object a turn, on standard output
  reskill-cli export one.jsonl --won --format parquet     what eval --episodes one.jsonl wrote

Exit codes: 0 done, 2 an error: one line says what and what to do."
)]
pub struct ExportArgs {
    /// Run directory, or a file that `eval --episodes` wrote
    source: PathBuf,
    /// How it is written
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// The file to write.
    #[arg(
        long,
        value_name = "FILE",
        help = "The file to write [default: standard output, or SOURCE with .parquet]"
    )]
    out: Option<PathBuf>,
    /// Only episodes played by these: `training`, `warm_start`, `final`, `final_bank_off`, or a contestant of `eval`
    #[arg(long, value_name = "WHO")]
    played: Vec<String>,
    /// Only episodes that reached their goal
    #[arg(long)]
    won: bool,
}

/// Kinds of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One JSON object a turn
    Jsonl,
    /// Apache Parquet, compressed with zstd
    Parquet,
}

/// Runs the command; the result is the exit code.
///
/// # Errors
/// One line for the person who typed the command.
pub fn run(args: &ExportArgs) -> Result<u8> {
    let path = file_of(&args.source)?;
    let lines = episodes::read(&path)?;
    let wanted = |line: &&EpisodeLine| {
        (args.played.is_empty() || args.played.contains(&line.played))
            && (!args.won || line.record.episode.is_success())
    };
    let rows: Vec<TurnRow> =
        lines.iter().filter(wanted).zip(0..).flat_map(|(line, index)| rows::of(line, index)).collect();
    if rows.is_empty() {
        bail!("{}: no episode is left of {} that it holds", path.display(), lines.len());
    }
    match (args.format, &args.out) {
        (Format::Parquet, out) => {
            let out = out.clone().unwrap_or_else(|| path.with_extension("parquet"));
            table::write(&out, &rows)?;
            print_line(&format!("{}: {} turns", out.display(), rows.len()));
        }
        (Format::Jsonl, Some(out)) => {
            let cannot = || format!("--out {}: cannot be written", out.display());
            let mut file = BufWriter::new(std::fs::File::create(out).with_context(cannot)?);
            for row in &rows {
                file.write_all(&json_line(row)?).with_context(cannot)?;
            }
            file.flush().with_context(cannot)?;
            print_line(&format!("{}: {} turns", out.display(), rows.len()));
        }
        (Format::Jsonl, None) => {
            for row in &rows {
                if !print_data(&json_line(row)?).context("standard output")? {
                    break;
                }
            }
        }
    }
    Ok(0)
}

/// The episodes of a run, or the file itself.
fn file_of(source: &Path) -> Result<PathBuf> {
    if source.is_file() {
        return Ok(source.to_path_buf());
    }
    let path = RunDir::open(source)?.episodes();
    if !path.is_file() {
        bail!("{}: the run kept no episodes; log.episodes says which are kept", source.display());
    }
    Ok(path)
}

fn json_line(row: &TurnRow) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(row).context("a turn cannot be written as JSON")?;
    line.push(b'\n');
    Ok(line)
}
