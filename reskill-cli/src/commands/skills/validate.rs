//! `skills validate`: every violation of the Agent Skills format, with file and line.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use reskill_skills::library::{skill_file, skill_folders, validate};

use super::FOUND;
use super::source::{library, print, print_json};

/// Checks skills against the Agent Skills format and this program's metadata; ends with 1 if anything is wrong
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  reskill-cli skills validate my-skills
  reskill-cli skills validate runs/one runs/two --json
  
  Exit codes: 0 all is well, 1 there are violations, 2 an error.")]
pub(super) struct ValidateArgs {
    /// Run directories, folders of Agent Skills, or single skills' folders
    #[arg(required = true)]
    sources: Vec<PathBuf>,
    /// Prints JSON: an array of violations
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ValidateArgs) -> Result<u8> {
    let (mut found, mut n_skills) = (Vec::new(), 0);
    for source in &args.sources {
        let folder = library(source)?;
        n_skills += if skill_file(&folder).is_some() { 1 } else { skill_folders(&folder)?.len() };
        found.extend(validate(&folder)?);
    }
    if args.json {
        print_json(&found)?;
    } else {
        for violation in &found {
            let problem = &violation.problem;
            let (file, line) = (violation.file.display(), problem.line);
            print(&format!("{file}:{line}: {}; {}\n", problem.problem, problem.remedy))?;
        }
        print(&format!("{n_skills} skills, {} violations\n", found.len()))?;
    }
    Ok(if found.is_empty() { 0 } else { FOUND })
}
