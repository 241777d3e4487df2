//! Writes `report.html` of a run again, from the files in its directory.
//!
//! ```text
//! cargo run --release -p reskill-cli --example report -- runs/default-20260131T235959Z
//! ```

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use reskill_cli::report;
use reskill_cli::run_dir::RunDir;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "an example that is run by hand")]
fn main() -> ExitCode {
    match write_report() {
        Ok(path) => {
            println!("{path}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn write_report() -> Result<String> {
    let dir = std::env::args().nth(1).context("usage: report RUN_DIRECTORY")?;
    let run = RunDir::open(Path::new(&dir))?;
    report::write(&run)?;
    Ok(run.report().display().to_string())
}
