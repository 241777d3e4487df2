//! `skills history`: everything that happened to the bank of a run.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use reskill_skills::store::load_history;
use reskill_skills::{HistoryKind, HistoryRecord, Operation};

use super::source::{print, print_json, short, table};
use crate::summary::why;

/// Lists every proposed, accepted, rejected and pruned version of a run
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  reskill-cli skills history runs/one --kind accepted
  reskill-cli skills history runs/one --skill open-after-go-to --json")]
pub(super) struct HistoryArgs {
    /// Run directory, or a history.jsonl
    run: PathBuf,
    /// Only events of this kind; may be given several times
    #[arg(long, value_name = "KIND")]
    kind: Vec<Kind>,
    /// Only events that concern a skill of this name or id
    #[arg(long, value_name = "NAME")]
    skill: Option<String>,
    /// Prints JSON: an array of records with their decisions and the creator's stages
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Proposed,
    Accepted,
    Rejected,
    Pruned,
    Refused,
    CreatorFailed,
    CreatorMissed,
}

pub(super) fn run(args: &HistoryArgs) -> Result<u8> {
    let records: Vec<HistoryRecord> = load_history(&file(&args.run)?)?
        .into_iter()
        .filter(|record| args.kind.is_empty() || args.kind.iter().any(|kind| *kind == kind_of(record.kind)))
        .filter(|record| {
            let concerns =
                |wanted: &String| record.operations.iter().any(|one| one_of(one).contains(&wanted.as_str()));
            args.skill.as_ref().is_none_or(concerns)
        })
        .collect();
    if args.json {
        print_json(&records)?;
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = records
        .iter()
        .map(|record| {
            let changes: Vec<String> = record.operations.iter().map(change).collect();
            let p = record.decision.as_ref().map_or("-".to_owned(), |it| format!("{:.3}", it.p_new_better));
            vec![
                record.step.to_string(),
                serde_json::to_value(record.kind)
                    .ok()
                    .and_then(|kind| kind.as_str().map(str::to_owned))
                    .unwrap_or_default(),
                changes.join(", "),
                p,
                record.decision.as_ref().map_or_else(|| short(&record.reason, 70), |it| why(it).to_owned()),
            ]
        })
        .collect();
    print(&table(&["STEP", "EVENT", "CHANGE", "P(BETTER)", "REASON"], &rows))?;
    print(&format!("{} events\n", rows.len()))?;
    Ok(0)
}

fn file(path: &Path) -> Result<PathBuf> {
    let inside = path.join("history.jsonl");
    if inside.is_file() {
        return Ok(inside);
    }
    if path.is_file() {
        return Ok(path.to_path_buf());
    }
    bail!("{}: no history.jsonl here; give a run directory that has made a step", path.display())
}

fn kind_of(kind: HistoryKind) -> Kind {
    match kind {
        HistoryKind::Proposed => Kind::Proposed,
        HistoryKind::Accepted => Kind::Accepted,
        HistoryKind::Rejected => Kind::Rejected,
        HistoryKind::Pruned => Kind::Pruned,
        HistoryKind::Refused => Kind::Refused,
        HistoryKind::CreatorFailed => Kind::CreatorFailed,
        HistoryKind::CreatorMissed => Kind::CreatorMissed,
    }
}

/// What an operation may be called by: name, id.
fn one_of(operation: &Operation) -> Vec<&str> {
    match operation {
        Operation::Add(content) => vec![&content.name],
        Operation::Modify { id, content } => vec![&id.0, &content.name],
        Operation::Delete { id } => vec![&id.0],
    }
}

fn change(operation: &Operation) -> String {
    match operation {
        Operation::Add(content) => format!("+{}", content.name),
        Operation::Modify { id, content } => format!("~{} ({id})", content.name),
        Operation::Delete { id } => format!("-{id}"),
    }
}
