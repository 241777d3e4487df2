//! `skills show`: one skill in full.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use reskill_skills::library::files;
use reskill_skills::{Example, skill_md};

use super::source::{bank, library, print, print_json, skill};

/// Shows one skill in full
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  reskill-cli skills show runs/one open-after-go-to
  reskill-cli skills show runs/one open-after-go-to --file > SKILL.md")]
pub(super) struct ShowArgs {
    /// Run directory or folder of Agent Skills
    source: PathBuf,
    /// Name or id of the skill
    skill: String,
    /// Prints JSON
    #[arg(long, conflicts_with = "file")]
    json: bool,
    /// Prints the SKILL.md
    #[arg(long)]
    file: bool,
}

pub(super) fn run(args: &ShowArgs) -> Result<u8> {
    let bank = bank(&args.source)?;
    let skill = skill(&bank, &args.skill)?;
    if args.json {
        print_json(skill)?;
        return Ok(0);
    }
    if args.file {
        print(&skill_md::write(skill))?;
        return Ok(0);
    }
    let content = &skill.content;
    let mut rows = vec![
        ("name", content.name.clone()),
        ("id", skill.id.0.clone()),
        ("version", format!("{}, born at step {}", skill.version, skill.born_step)),
        ("status", skill.status.as_str().to_owned()),
        ("shown", content.trigger.to_string()),
        ("when to use", content.when_to_use.clone()),
        ("action", content.action.clone()),
    ];
    match &content.example {
        Some(Example::Do(text)) => rows.push(("do", text.clone())),
        Some(Example::Dont(text)) => rows.push(("don't", text.clone())),
        None => {}
    }
    rows.extend(content.guidance.as_ref().map(|guidance| ("measured as", guidance.to_string())));
    rows.extend(skill.foreign.license.clone().map(|text| ("license", text)));
    rows.extend(skill.foreign.compatibility.clone().map(|text| ("compatibility", text)));
    rows.extend(skill.foreign.allowed_tools.clone().map(|text| ("allowed tools", text)));
    let others: Vec<String> = files(&library(&args.source)?.join(skill.name()))
        .unwrap_or_default()
        .iter()
        .filter(|file| !file.as_os_str().eq_ignore_ascii_case("SKILL.md"))
        .map(|file| file.display().to_string())
        .collect();
    if !others.is_empty() {
        rows.push(("other files", others.join("\n")));
    }
    for (label, text) in rows {
        print(&format!("{label:<13} {}\n", text.replace('\n', "\n              ")))?;
    }
    Ok(0)
}
