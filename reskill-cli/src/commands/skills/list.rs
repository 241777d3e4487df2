//! `skills list`: one line a skill.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::source::{bank, print, print_json, short, table};

/// Lists the skills of a run or a folder
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  reskill-cli skills list runs/one
  reskill-cli skills list my-skills --json | jq -r '.[].content.name'")]
pub(super) struct ListArgs {
    /// Run directory or folder of Agent Skills
    source: PathBuf,
    /// Prints JSON: an array of skills
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ListArgs) -> Result<u8> {
    let bank = bank(&args.source)?;
    if args.json {
        print_json(&bank.skills())?;
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = bank
        .skills()
        .iter()
        .map(|skill| {
            vec![
                skill.name().to_owned(),
                skill.id.0.clone(),
                skill.version.to_string(),
                skill.born_step.to_string(),
                skill.status.as_str().to_owned(),
                short(&skill.content.trigger.to_string(), 40),
                short(&skill.content.action, 50),
            ]
        })
        .collect();
    let n_active = bank.n_active();
    print(&table(&["NAME", "ID", "VERSION", "BORN", "STATUS", "SHOWN", "ACTION"], &rows))?;
    print(&format!("{} skills, {n_active} active\n", rows.len()))?;
    Ok(0)
}
