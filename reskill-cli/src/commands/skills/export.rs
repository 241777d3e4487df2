//! `skills export`: the bank as an Agent Skills library for other programs.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use reskill_skills::SkillStatus;
use reskill_skills::library::{Fate, OnConflict, import};

use super::source::{bank, conflicts, library, print, print_json};

/// Writes the skills of a run or a folder as an Agent Skills library, with all their files
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  reskill-cli skills export runs/one library
  reskill-cli skills export runs/one library --force")]
pub(super) struct ExportArgs {
    /// Run directory or folder of Agent Skills
    source: PathBuf,
    /// Folder to write to; made if it does not exist
    to: PathBuf,
    /// Replaces skills of the same names that differ
    #[arg(long)]
    force: bool,
    /// Prints JSON: what became of each skill
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ExportArgs) -> Result<u8> {
    let from = library(&args.source)?;
    let bank = bank(&args.source)?;
    let on_conflict = if args.force { OnConflict::Replace } else { OnConflict::Refuse };
    let fates = import(&from, &args.to, on_conflict)
        .map_err(|error| conflicts(error, "nothing was exported: --force replaces them"))?;
    if args.json {
        print_json(&fates)?;
        return Ok(0);
    }
    let n_new = fates.iter().filter(|(_, fate)| *fate != Fate::Unchanged).count();
    let n_inactive = bank.skills().iter().filter(|skill| skill.status == SkillStatus::Inactive).count();
    print(&format!(
        "{} skills in {}, {n_new} of them written{}\n",
        fates.len(),
        args.to.display(),
        if n_inactive > 0 { format!("; {n_inactive} are inactive") } else { String::new() }
    ))?;
    Ok(0)
}
