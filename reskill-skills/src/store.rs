//! Banks and histories as files.
//!
//! ```text
//! <folder>/<name>/SKILL.md       one folder per skill, the Agent Skills layout
//! history.jsonl                  one record per line
//! ```

use std::fs;
use std::io::Write as _;
use std::path::Path;

use crate::bank::SkillBank;
use crate::error::SkillError;
use crate::library::{FILE, read_text, skill_file, skill_folders};
use crate::lifecycle::HistoryRecord;
use crate::skill_md;

/// Writes a bank as Agent Skills folders. Each file is written to a temporary name and renamed. Files other than
/// SKILL.md stay; a `skill.md` in lower case is written under that name. Folders of skills that the bank does not hold lose
/// their SKILL.md, and go if nothing else is in them; folders this crate did not write (no `reskill-id`) are left alone.
///
/// # Errors
/// [`SkillError::Io`].
pub fn save_bank(folder: &Path, bank: &SkillBank) -> Result<(), SkillError> {
    fs::create_dir_all(folder).map_err(|source| write_error(folder, source))?;
    for skill in bank.skills() {
        let home = folder.join(skill.name());
        fs::create_dir_all(&home).map_err(|source| write_error(&home, source))?;
        let file = skill_file(&home).unwrap_or_else(|| home.join(FILE));
        write_atomically(&file, skill_md::write(skill).as_bytes())?;
    }
    for home in skill_folders(folder)? {
        let kept = home.file_name().and_then(|name| name.to_str());
        if kept.is_some_and(|name| bank.skills().iter().any(|skill| skill.name() == name)) {
            continue;
        }
        let Some(file) = skill_file(&home) else { continue };
        let text = read_text(&file)?;
        let is_ours = skill_md::parse(&text, kept).0.is_some_and(|skill| skill.foreign.source.is_none());
        if is_ours {
            fs::remove_file(&file).map_err(|source| write_error(&file, source))?;
            // Other files may be in it; then the folder stays.
            let _ = fs::remove_dir(&home);
        }
    }
    Ok(())
}

/// Reads a bank: every folder with a SKILL.md (or skill.md), in the order of birth, then of id and name.
///
/// # Errors
/// [`SkillError::Io`], and whatever [`skill_md::read`] and [`SkillBank::from_skills`] refuse.
pub fn load_bank(folder: &Path) -> Result<SkillBank, SkillError> {
    let mut skills = Vec::new();
    for home in skill_folders(folder)? {
        if let Some(file) = skill_file(&home) {
            skills.push(skill_md::read(&read_text(&file)?, &file)?);
        }
    }
    skills.sort_by(|a, b| (a.born_step, &a.id, a.name()).cmp(&(b.born_step, &b.id, b.name())));
    SkillBank::from_skills(skills)
}

/// Writes the whole history, one JSON object per line.
///
/// # Errors
/// [`SkillError::Io`], [`SkillError::Json`].
pub fn save_history(file: &Path, history: &[HistoryRecord]) -> Result<(), SkillError> {
    let mut text = Vec::new();
    for (index, record) in history.iter().enumerate() {
        serde_json::to_writer(&mut text, record).map_err(|source| SkillError::Json {
            path: file.to_owned(),
            line: index + 1,
            source,
        })?;
        text.push(b'\n');
    }
    write_atomically(file, &text)
}

/// Reads a history.
///
/// # Errors
/// [`SkillError::Io`], [`SkillError::Json`] with the line.
pub fn load_history(file: &Path) -> Result<Vec<HistoryRecord>, SkillError> {
    let text = fs::read_to_string(file).map_err(|source| read_error(file, source))?;
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|source| SkillError::Json {
                path: file.to_owned(),
                line: index + 1,
                source,
            })
        })
        .collect()
}

pub(crate) fn write_atomically(file: &Path, bytes: &[u8]) -> Result<(), SkillError> {
    let temporary = file.with_extension("tmp");
    let write = || -> std::io::Result<()> {
        let mut out = fs::File::create(&temporary)?;
        out.write_all(bytes)?;
        out.sync_all()?;
        fs::rename(&temporary, file)
    };
    write().map_err(|source| write_error(file, source))
}

pub(crate) fn read_error(path: &Path, source: std::io::Error) -> SkillError {
    SkillError::Io { path: path.to_owned(), verb: "read", source }
}

pub(crate) fn write_error(path: &Path, source: std::io::Error) -> SkillError {
    SkillError::Io { path: path.to_owned(), verb: "written", source }
}
