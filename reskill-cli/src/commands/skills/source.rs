//! Where skills come from, and how results are printed.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use reskill_skills::library::{skill_file, skill_folders};
use reskill_skills::store::load_bank;
use reskill_skills::{Skill, SkillBank, SkillError};
use serde::Serialize;

/// The folder of skills that a path means: `skills/` of a run directory, or the folder itself.
///
/// # Errors
/// If there is no such folder, or nothing in it is a skill.
pub(super) fn library(path: &Path) -> Result<PathBuf> {
    let shown = path.display();
    if path.join("config.toml").is_file() {
        let skills = path.join("skills");
        if !skills.is_dir() {
            bail!("{shown}: the run has written no skills yet; they appear with its first accepted version");
        }
        return Ok(skills);
    }
    if !path.is_dir() {
        bail!("{shown}: no such folder; give a run directory or a folder of Agent Skills");
    }
    if skill_file(path).is_none() && skill_folders(path)?.is_empty() {
        bail!("{shown}: no skills here; expected a run directory, or folders with a SKILL.md each");
    }
    Ok(path.to_path_buf())
}

/// The bank of a run directory or of a folder.
///
/// # Errors
/// See [`library`]; if a file is malformed.
pub(super) fn bank(path: &Path) -> Result<SkillBank> {
    let folder = library(path)?;
    load_bank(&folder).with_context(|| {
        format!("{}: try `reskill-cli skills validate {}`", path.display(), folder.display())
    })
}

/// The skill with this name or id.
///
/// # Errors
/// If there is none; the message names the nearest.
pub(super) fn skill<'a>(bank: &'a SkillBank, wanted: &str) -> Result<&'a Skill> {
    let found = bank.skills().iter().find(|skill| skill.name() == wanted || skill.id.0 == wanted);
    found.with_context(|| {
        let nearest = bank
            .skills()
            .iter()
            .map(Skill::name)
            .max_by(|a, b| strsim::jaro_winkler(a, wanted).total_cmp(&strsim::jaro_winkler(b, wanted)));
        match nearest {
            Some(nearest) => format!("no skill `{wanted}`; did you mean `{nearest}`?"),
            None => format!("no skill `{wanted}`: the bank is empty"),
        }
    })
}

/// Writes to standard output. A reader that has left (`| head`) is no error.
///
/// # Errors
/// If it cannot be written.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("standard output"),
        _ => Ok(()),
    }
}

/// Writes a value as indented JSON.
///
/// # Errors
/// If it cannot be written.
pub(super) fn print_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context("the result cannot be written as JSON")?;
    print(&format!("{text}\n"))
}

/// Columns as wide as their longest cell; the last one ends at the line's end.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&header).chain(rows) {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A text on one line of at most `max` characters.
pub(super) fn short(text: &str, max: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= max {
        return line;
    }
    let kept: String = line.chars().take(max.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// Skills in the way of a copy, with what to do about them; other errors as they are.
pub(super) fn conflicts(error: SkillError, remedy: &str) -> anyhow::Error {
    match error {
        SkillError::Conflicts { folder, names } => anyhow::anyhow!(
            "{}: {} there already, with other content; {remedy}",
            folder.display(),
            names.join(", ")
        ),
        other => other.into(),
    }
}
