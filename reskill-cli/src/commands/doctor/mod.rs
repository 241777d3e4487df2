//! `reskill-cli doctor`: what this machine has, what is missing, and how to get it.

mod machine;
mod parts;

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::skills::{FOUND, print_json};
use crate::progress::print_data;

/// Says what this machine has, what is missing, and how to get it
#[derive(Debug, Args)]
#[command(
    after_help = "`ok` is there, `absent` is an optional part that is not, `problem` keeps the default run from working.
Nothing is downloaded, nothing is sent, and of keys only whether they are set is looked at.

Examples:
  reskill-cli doctor
  reskill-cli doctor --data ~/alfworld --data ~/science      which environments these folders are for
  reskill-cli doctor --json | jq '.[] | select(.status != \"ok\")'

Exit codes: 0 no problem, 1 a problem, 2 an error."
)]
pub struct DoctorArgs {
    /// Folder or file of an environment's data; may be given several times
    #[arg(long, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Prints JSON: [{"part", "status": "ok" | "absent" | "problem", "found", "get"}]
    #[arg(long)]
    json: bool,
}

/// How it is with one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// There.
    Ok,
    /// Optional and not there.
    Absent,
    /// Keeps the default run from working.
    Problem,
}

/// What was found of one part.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Finding {
    /// The part.
    part: &'static str,
    /// How it is.
    status: Status,
    /// What was found.
    found: String,
    /// What to do to get it, where it is not there.
    get: Option<String>,
}

impl Finding {
    fn ok(part: &'static str, found: impl Into<String>) -> Finding {
        Finding { part, status: Status::Ok, found: found.into(), get: None }
    }

    fn absent(part: &'static str, found: impl Into<String>, get: impl Into<String>) -> Finding {
        Finding { part, status: Status::Absent, found: found.into(), get: Some(get.into()) }
    }

    fn problem(part: &'static str, found: impl Into<String>, get: impl Into<String>) -> Finding {
        Finding { part, status: Status::Problem, found: found.into(), get: Some(get.into()) }
    }
}

/// Runs the command; the result is the exit code.
///
/// # Errors
/// If the findings cannot be printed.
pub fn run(args: &DoctorArgs) -> Result<u8> {
    let mut findings = machine::findings();
    findings.extend(parts::findings(&args.data));
    if args.json {
        print_json(&findings)?;
    } else {
        print_data(table(&findings).as_bytes())?;
    }
    let has_problem = findings.iter().any(|finding| finding.status == Status::Problem);
    Ok(if has_problem { FOUND } else { 0 })
}

fn table(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.part.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { part, status, found, get } in findings {
        let status = match status {
            Status::Ok => "ok",
            Status::Absent => "absent",
            Status::Problem => "problem",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{status:<8} {part:<width$}  {found}");
        if let Some(get) = get {
            let _ = writeln!(text, "{:<8} {:<width$}  get it: {get}", "", "");
        }
    }
    text
}
