//! A folder of Agent Skills as a whole: what is wrong with it, and taking skills over from another one with all their files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::SkillError;
use crate::skill::{Skill, SkillId, check_name};
use crate::skill_md::{self, MAX_FILE_BYTES, Problem};
use crate::store::{read_error, write_atomically, write_error};

/// The file that makes a folder a skill.
pub const FILE: &str = "SKILL.md";
/// Most names tried for a skill whose name is taken.
const MAX_RENAMES: usize = 1000;

/// What is wrong with one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The file.
    pub file: PathBuf,
    /// Line, text, remedy.
    #[serde(flatten)]
    pub problem: Problem,
}

/// What to do with a skill whose name is taken by another one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// Nothing is imported at all.
    #[default]
    Refuse,
    /// The skill there goes, with its files.
    Replace,
    /// The new one gets the next free name: `review-2`.
    Rename,
}

/// What became of one skill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is new.
    Added,
    /// It is there already, file for file.
    Unchanged,
    /// It took the place of another.
    Replaced,
    /// It lives under this name.
    Renamed(String),
}

/// Folders directly below that hold a SKILL.md or skill.md, by name. A folder that is itself a skill stands for itself.
///
/// # Errors
/// [`SkillError::Io`].
pub fn skill_folders(folder: &Path) -> Result<Vec<PathBuf>, SkillError> {
    let mut homes = Vec::new();
    for entry in fs::read_dir(folder).map_err(|source| read_error(folder, source))? {
        let home = entry.map_err(|source| read_error(folder, source))?.path();
        if skill_file(&home).is_some() {
            homes.push(home);
        }
    }
    homes.sort();
    Ok(homes)
}

/// The SKILL.md of a skill's folder; `skill.md` will do.
#[must_use]
pub fn skill_file(home: &Path) -> Option<PathBuf> {
    [FILE, "skill.md"].map(|name| home.join(name)).into_iter().find(|file| file.is_file())
}

/// Reads a SKILL.md, up to [`MAX_FILE_BYTES`].
///
/// # Errors
/// [`SkillError::Io`]; [`SkillError::SkillFile`] if it is too large or not UTF-8.
pub fn read_text(file: &Path) -> Result<String, SkillError> {
    let fail = |line: usize, reason: String| SkillError::SkillFile { path: file.to_owned(), line, reason };
    let size = fs::metadata(file).map_err(|source| read_error(file, source))?.len();
    if size > MAX_FILE_BYTES {
        return Err(fail(
            1,
            format!("{size} bytes, expected at most {MAX_FILE_BYTES}; move text into references/"),
        ));
    }
    let bytes = fs::read(file).map_err(|source| read_error(file, source))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        fail(line, "not UTF-8; save it as UTF-8".into())
    })
}

/// Every violation of the open format and of this crate's own metadata in a library, by file and line; names and ids that
/// two skills share, too. A folder that is itself a skill is checked alone.
///
/// # Errors
/// [`SkillError::Io`] if the folder cannot be read.
pub fn validate(folder: &Path) -> Result<Vec<Violation>, SkillError> {
    let mut found = Vec::new();
    let mut seen: Vec<(SkillId, PathBuf)> = Vec::new();
    for home in homes(folder)? {
        let Some(file) = skill_file(&home) else { continue };
        let text = match read_text(&file) {
            Ok(text) => text,
            Err(SkillError::SkillFile { line, reason, .. }) => {
                let (problem, remedy) = reason.split_once("; ").unwrap_or((&reason, "mend the file"));
                let problem =
                    Problem { line, problem: problem.to_owned(), remedy: remedy.to_owned(), fatal: true };
                found.push(Violation { file, problem });
                continue;
            }
            Err(error) => return Err(error),
        };
        let name = home.file_name().and_then(|name| name.to_str());
        let (skill, problems) = skill_md::parse(&text, name);
        found.extend(problems.into_iter().map(|problem| Violation { file: file.clone(), problem }));
        if let Some(skill) = skill {
            if let Some((_, other)) = seen.iter().find(|(id, _)| *id == skill.id) {
                let line = text.lines().position(|line| line.contains("reskill-id")).map_or(1, |at| at + 1);
                let problem = Problem {
                    line,
                    problem: format!("id `{}` is that of {} too", skill.id, other.display()),
                    remedy: "give one of them another reskill-id".into(),
                    fatal: true,
                };
                found.push(Violation { file: file.clone(), problem });
            }
            seen.push((skill.id, file));
        }
    }
    Ok(found)
}

/// The skill folders of a library, or the folder itself if it is a skill.
fn homes(folder: &Path) -> Result<Vec<PathBuf>, SkillError> {
    if skill_file(folder).is_some() {
        let whole = folder.canonicalize().map_err(|source| read_error(folder, source))?;
        return Ok(vec![whole]);
    }
    skill_folders(folder)
}

/// One skill that is to be imported.
struct Arrival {
    home: PathBuf,
    text: String,
    skill: Skill,
    name: String,
    fate: Fate,
}

/// Takes the skills of `from` (a library, or one skill's folder) over into the library `into`, with all their files, byte
/// for byte. Either all arrive or none does. Ids that are taken are given anew; a file is rewritten only for a new name or
/// id. Links are followed, so that what arrives is whole.
///
/// # Errors
/// [`SkillError::Conflicts`] with every name that is taken, under [`OnConflict::Refuse`]; [`SkillError::SkillFile`],
/// [`SkillError::Io`].
pub fn import(from: &Path, into: &Path, on_conflict: OnConflict) -> Result<Vec<(String, Fate)>, SkillError> {
    fs::create_dir_all(into).map_err(|source| write_error(into, source))?;
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut ids: Vec<(String, SkillId)> = Vec::new();
    for home in skill_folders(into)? {
        let Some(file) = skill_file(&home) else { continue };
        let skill = skill_md::read(&read_text(&file)?, &file)?;
        names.insert(skill.name().to_owned());
        ids.push((skill.name().to_owned(), skill.id));
    }
    let mut arrivals = Vec::new();
    let mut conflicts = Vec::new();
    for home in homes(from)? {
        let Some(file) = skill_file(&home) else { continue };
        let text = read_text(&file)?;
        let skill = skill_md::read(&text, &file)?;
        let name = skill.name().to_owned();
        let there = into.join(&name);
        let fate = if !there.exists() && !names.contains(&name) {
            Fate::Added
        } else if same_files(&home, &there)? {
            Fate::Unchanged
        } else {
            match on_conflict {
                OnConflict::Refuse => {
                    conflicts.push(name.clone());
                    Fate::Unchanged
                }
                OnConflict::Replace => Fate::Replaced,
                OnConflict::Rename => Fate::Renamed(free_name(&name, into, &names)?),
            }
        };
        let new_name = if let Fate::Renamed(new) = &fate { new.clone() } else { name };
        names.insert(new_name.clone());
        arrivals.push(Arrival { home, text, skill, name: new_name, fate });
    }
    if !conflicts.is_empty() {
        return Err(SkillError::Conflicts { folder: into.to_owned(), names: conflicts });
    }
    for arrival in &arrivals {
        if arrival.fate != Fate::Unchanged {
            settle(arrival, into, &mut ids)?;
        }
    }
    Ok(arrivals.into_iter().map(|arrival| (arrival.skill.name().to_owned(), arrival.fate)).collect())
}

/// Copies one skill next to its place, and puts it there in one move.
fn settle(arrival: &Arrival, into: &Path, ids: &mut Vec<(String, SkillId)>) -> Result<(), SkillError> {
    let mut skill = arrival.skill.clone();
    skill.content.name.clone_from(&arrival.name);
    ids.retain(|(name, _)| *name != arrival.name);
    if ids.iter().any(|(_, id)| *id == skill.id) {
        let highest = ids.iter().filter_map(|(_, id)| id.0.strip_prefix('s')?.parse::<u64>().ok()).max();
        skill.id = SkillId(format!("s{:04}", highest.map_or(0, |id| id.saturating_add(1))));
    }
    let same = skill.id == arrival.skill.id && arrival.name == arrival.skill.name();
    ids.push((arrival.name.clone(), skill.id.clone()));
    let temporary = into.join(format!(".{}.arriving", arrival.name));
    remove_folder(&temporary)?;
    copy_folder(&arrival.home, &temporary)?;
    if !same && let Some(file) = skill_file(&temporary) {
        write_atomically(&file, skill_md::write(&skill).as_bytes())?;
    }
    debug_assert!(same || arrival.text != skill_md::write(&skill));
    let place = into.join(&arrival.name);
    let old = into.join(format!(".{}.leaving", arrival.name));
    remove_folder(&old)?;
    if place.exists() {
        fs::rename(&place, &old).map_err(|source| write_error(&place, source))?;
    }
    fs::rename(&temporary, &place).map_err(|source| write_error(&place, source))?;
    remove_folder(&old)
}

fn remove_folder(folder: &Path) -> Result<(), SkillError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(write_error(folder, error)),
        _ => Ok(()),
    }
}

fn free_name(name: &str, into: &Path, names: &BTreeSet<String>) -> Result<String, SkillError> {
    (2..MAX_RENAMES)
        .map(|number| {
            let suffix = format!("-{number}");
            let kept: String = name.chars().take(64 - suffix.len()).collect();
            format!("{}{suffix}", kept.trim_end_matches('-'))
        })
        .find(|name| check_name(name).is_ok() && !names.contains(name) && !into.join(name).exists())
        .ok_or_else(|| SkillError::Duplicate { field: "name", value: name.to_owned() })
}

/// Writes the files of every skill that `bank_folder` holds beside its SKILL.md into the folders of the same names in
/// `to`, byte for byte, as far as those folders exist. What a bank does not hold (scripts, references, assets) comes along
/// with it this way.
///
/// # Errors
/// [`SkillError::Io`].
pub fn copy_other_files(bank_folder: &Path, to: &Path) -> Result<(), SkillError> {
    for home in skill_folders(bank_folder)? {
        let Some(target) = home.file_name().map(|name| to.join(name)).filter(|target| target.is_dir()) else {
            continue;
        };
        for file in files(&home)? {
            let is_skill = skill_file(&home).is_some_and(|skill| skill == home.join(&file));
            if !is_skill {
                copy(&home.join(&file), &target.join(&file))?;
            }
        }
    }
    Ok(())
}

fn same_files(one: &Path, other: &Path) -> Result<bool, SkillError> {
    if !other.is_dir() || files(one)? != files(other)? {
        return Ok(false);
    }
    for file in files(one)? {
        let read = |home: &Path| {
            let path = home.join(&file);
            fs::read(&path).map_err(|source| read_error(&path, source))
        };
        if read(one)? != read(other)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// All files below a folder, relative to it, sorted.
///
/// # Errors
/// [`SkillError::Io`].
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, SkillError> {
    let mut found = Vec::new();
    let mut open = vec![(PathBuf::new(), 0)];
    while let Some((relative, depth)) = open.pop() {
        let at = folder.join(&relative);
        for entry in fs::read_dir(&at).map_err(|source| read_error(&at, source))? {
            let entry = entry.map_err(|source| read_error(&at, source))?;
            let path = relative.join(entry.file_name());
            let whole = folder.join(&path);
            if whole.is_dir() {
                // A link to a folder above would never end.
                if depth >= MAX_DEPTH {
                    let source = std::io::Error::other(format!("more than {MAX_DEPTH} folders deep"));
                    return Err(read_error(&whole, source));
                }
                open.push((path, depth + 1));
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Deepest folder of a skill.
const MAX_DEPTH: usize = 32;

fn copy_folder(from: &Path, to: &Path) -> Result<(), SkillError> {
    fs::create_dir_all(to).map_err(|source| write_error(to, source))?;
    files(from)?.iter().try_for_each(|file| copy(&from.join(file), &to.join(file)))
}

fn copy(from: &Path, to: &Path) -> Result<(), SkillError> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(|source| write_error(folder, source))?;
    }
    fs::copy(from, to).map(|_| ()).map_err(|source| write_error(to, source))
}
