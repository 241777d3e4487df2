//! Games in files of their own: `json_2.1.1/<split>/<task>/<trial>/game.tw-pddl`.

use std::path::{Path, PathBuf};

use super::{AlfworldOptions, Content, Found, Listed, family_of};
use crate::alfworld::game_file::GameFile;
use crate::alfworld::grammar::split_task;
use crate::error::EnvError;
use crate::suite::{Split, TaskId};

const FILE_NAME: &str = "game.tw-pddl";
const ROOT_NAME: &str = "json_2.1.1";

/// Lists the games of a tree, of the folder above it, or of one file.
pub(super) fn open(path: &Path, options: &AlfworldOptions) -> Result<Vec<Listed>, EnvError> {
    let found = if path.is_dir() {
        let nested = path.join(ROOT_NAME);
        let root = if nested.is_dir() { nested } else { path.to_owned() };
        let mut found = Vec::new();
        for split in Split::ALL {
            let folder = root.join(split.as_str());
            if options.splits.contains(&split) && folder.is_dir() {
                walk(&folder, split, split.as_str(), &mut found)?;
            }
        }
        found.retain(|game| options.wants(game.split, family_of(&game.id)));
        options.thin(found)
    } else {
        // One file is always wanted, whatever the options say.
        vec![single(path)]
    };
    let mut listed = Vec::with_capacity(found.len());
    for Found { id, split, content: path } in found {
        let file = GameFile::read(&path)?;
        if file.solvable {
            let (_, task_line) = split_task(&file.grammar);
            let task_line = task_line.unwrap_or_default();
            listed.push(Listed { id, split, task_line, content: Content::File(path) });
        }
    }
    Ok(listed)
}

/// Adds every game below `folder`; the id of a game is the path of its folder from the split on.
fn walk(folder: &Path, split: Split, id: &str, found: &mut Vec<Found<PathBuf>>) -> Result<(), EnvError> {
    let failed = |source| EnvError::Read { path: folder.into(), source };
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            walk(&path, split, &format!("{id}/{}", name.to_string_lossy()), found)?;
        } else if name == FILE_NAME {
            found.push(Found { id: TaskId(id.to_owned()), split, content: path });
        }
    }
    Ok(())
}

/// The id of a file is that of a tree if it stands in one, else its folder's name under `train`.
fn single(path: &Path) -> Found<PathBuf> {
    let above: Vec<String> = path
        .ancestors()
        .skip(1)
        .take(3)
        .filter_map(|folder| Some(folder.file_name()?.to_string_lossy().into_owned()))
        .collect();
    let split = above.get(2).and_then(|name| Split::ALL.into_iter().find(|split| split.as_str() == name));
    let id = match (split, above.as_slice()) {
        (Some(split), [trial, task, _]) => format!("{split}/{task}/{trial}"),
        (_, [trial, task, ..]) => format!("train/{task}/{trial}"),
        (_, _) => format!("train/game/{}", path.file_stem().unwrap_or_default().to_string_lossy()),
    };
    Found { id: TaskId(id), split: split.unwrap_or(Split::Train), content: path.to_owned() }
}
