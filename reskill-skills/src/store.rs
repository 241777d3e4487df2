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
use crate::lifecycle::HistoryRecord;
use crate::skill_md;

const FILE: &str = "SKILL.md";

/// Writes a bank as Agent Skills folders. Each file is written to a temporary name and renamed. Files other than
/// SKILL.md stay. Folders of skills that the bank does not hold lose their SKILL.md, and go if nothing else is in them;
/// folders this crate did not write (no `reskill-id`) are left alone.
///
/// # Errors
/// [`SkillError::Io`], [`SkillError::Yaml`].
pub fn save_bank(folder: &Path, bank: &SkillBank) -> Result<(), SkillError> {
    fs::create_dir_all(folder).map_err(|source| write_error(folder, source))?;
    for skill in bank.skills() {
        let home = folder.join(skill.name());
        fs::create_dir_all(&home).map_err(|source| write_error(&home, source))?;
        write_atomically(&home.join(FILE), skill_md::write(skill)?.as_bytes())?;
    }
    for home in skill_folders(folder)? {
        let kept = home.file_name().and_then(|name| name.to_str());
        if kept.is_some_and(|name| bank.skills().iter().any(|skill| skill.name() == name)) {
            continue;
        }
        let file = home.join(FILE);
        let text = fs::read_to_string(&file).map_err(|source| read_error(&file, source))?;
        if text.contains("reskill-id:") {
            fs::remove_file(&file).map_err(|source| write_error(&file, source))?;
            // Other files may be in it; then the folder stays.
            let _ = fs::remove_dir(&home);
        }
    }
    Ok(())
}

/// Reads a bank: every folder with a SKILL.md, in the order of birth, then of id and name.
///
/// # Errors
/// [`SkillError::Io`], and whatever [`skill_md::read`] and [`SkillBank::from_skills`] refuse.
pub fn load_bank(folder: &Path) -> Result<SkillBank, SkillError> {
    let mut skills = Vec::new();
    for home in skill_folders(folder)? {
        let file = home.join(FILE);
        let text = fs::read_to_string(&file).map_err(|source| read_error(&file, source))?;
        skills.push(skill_md::read(&text, &file)?);
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

/// Folders directly below that hold a SKILL.md, by name.
fn skill_folders(folder: &Path) -> Result<Vec<std::path::PathBuf>, SkillError> {
    let mut homes = Vec::new();
    for entry in fs::read_dir(folder).map_err(|source| read_error(folder, source))? {
        let home = entry.map_err(|source| read_error(folder, source))?.path();
        if home.join(FILE).is_file() {
            homes.push(home);
        }
    }
    homes.sort();
    Ok(homes)
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

fn read_error(path: &Path, source: std::io::Error) -> SkillError {
    SkillError::Io { path: path.to_owned(), verb: "read", source }
}

fn write_error(path: &Path, source: std::io::Error) -> SkillError {
    SkillError::Io { path: path.to_owned(), verb: "written", source }
}
