//! `skills import`: skills of others into a bank folder.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use reskill_skills::library::{Fate, OnConflict, import};

use super::source::{conflicts, library, print, print_json};

/// Takes the skills of a library, a run, or one skill's folder over into a bank folder, with all their files
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  reskill-cli skills import their-skills my-skills --rename
  reskill-cli train --set bank=my-skills")]
pub(super) struct ImportArgs {
    /// Library, run directory, or the folder of one skill
    from: PathBuf,
    /// Bank folder; made if it does not exist. A run begins with it if `bank` names it
    into: PathBuf,
    /// Replaces skills of the same names that differ
    #[arg(long, conflicts_with = "rename")]
    force: bool,
    /// Gives skills whose names are taken the next free name
    #[arg(long)]
    rename: bool,
    /// Prints JSON: what became of each skill
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ImportArgs) -> Result<u8> {
    let on_conflict = match (args.force, args.rename) {
        (true, _) => OnConflict::Replace,
        (false, true) => OnConflict::Rename,
        (false, false) => OnConflict::Refuse,
    };
    let fates = import(&library(&args.from)?, &args.into, on_conflict).map_err(|error| {
        conflicts(
            error,
            "nothing was imported: --force replaces them, --rename gives the new ones other names",
        )
    })?;
    if args.json {
        print_json(&fates)?;
        return Ok(0);
    }
    for (name, fate) in &fates {
        let words = match fate {
            Fate::Added => "added".to_owned(),
            Fate::Unchanged => "there already".to_owned(),
            Fate::Replaced => "replaced".to_owned(),
            Fate::Renamed(new) => format!("added as {new}"),
        };
        print(&format!("{name}: {words}\n"))?;
    }
    print(&format!("{} skills\n", fates.len()))?;
    Ok(0)
}
