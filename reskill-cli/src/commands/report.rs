//! `reskill-cli report`: a run, or several, as a page to read.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::progress::print_data;
use crate::report::{ReportOptions, compare, render};
use crate::run_dir::{RunDir, write_atomically};

/// Writes the report of a run, finished or not, or of several runs side by side
#[derive(Debug, Args)]
#[command(
    after_help = "One HTML file that needs no network and holds no script; its path is printed. `train` writes the report \
of its run by itself.

With --compare, runs whose configurations differ in the seed alone are one arm: curves are means with bands over seeds,
costs are ratios to the first run's arm. Settings under log and checkpoint, and threads, make no other arm.

Examples:
  reskill-cli report runs/one                                    runs/one/report.html
  reskill-cli report runs/one --episodes one.jsonl               with what `eval --episodes` wrote
  reskill-cli report runs/one --max-episodes 0 --out all.html    with every episode that was kept
  reskill-cli report --compare runs/grpo-* runs/reskill-*        comparison.html

Exit codes: 0 done, 2 an error: one line says what and what to do."
)]
pub struct ReportArgs {
    /// Run directory; with --compare several, the baseline first
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Puts several runs on one page
    #[arg(long)]
    compare: bool,
    /// The page to write.
    #[arg(
        long,
        value_name = "FILE",
        help = "The page to write [default: report.html of the run, or comparison.html]"
    )]
    out: Option<PathBuf>,
    /// Further episodes to show, as `eval --episodes` writes them; may be given several times
    #[arg(long, value_name = "FILE")]
    episodes: Vec<PathBuf>,
    /// Most episodes on the page, evenly spread over those there are; 0: all
    #[arg(long, value_name = "N", default_value_t = ReportOptions::default().max_episodes)]
    max_episodes: usize,
}

/// Runs the command; the result is the exit code.
///
/// # Errors
/// One line for the person who typed the command.
pub fn run(args: &ReportArgs) -> Result<u8> {
    let options = ReportOptions { episodes: args.episodes.clone(), max_episodes: args.max_episodes };
    let runs = args.runs.iter().map(|path| RunDir::open(path)).collect::<Result<Vec<_>>>()?;
    let (page, default) = match runs.as_slice() {
        [run] if !args.compare => (render(run, &options)?, run.report()),
        _ if !args.compare => bail!("several runs: compare them with --compare"),
        runs => (compare::render(runs, &options)?, PathBuf::from("comparison.html")),
    };
    let out = args.out.clone().unwrap_or(default);
    write_atomically(&out, page.as_bytes())?;
    print_data(format!("{}\n", out.display()).as_bytes()).context("standard output")?;
    Ok(0)
}
