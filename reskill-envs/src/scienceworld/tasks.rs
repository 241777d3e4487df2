//! The tasks of ScienceWorld 1.2.3: their variations, splits and goals.
//!
//! A goal is known to the simulator alone, and only once it has loaded the variation, which takes some 0.2 s of its 7,207;
//! so the goals are kept here, as `examples/scienceworld_tasks.rs` wrote them down.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::config::ScienceWorldOptions;
use crate::error::EnvError;
use crate::suite::{Split, Task, TaskId};

const TABLE: &[u8] = include_bytes!("tasks.jsonl.zst");

/// A task, with all its variations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFamily {
    /// Its name, e.g. `power-component`.
    pub name: String,
    /// Variations of the published train set.
    pub train: Range<usize>,
    /// Variations of the published development set.
    pub dev: Range<usize>,
    /// Variations of the published test set.
    pub test: Range<usize>,
    /// The goal in words of each variation.
    pub goals: Vec<String>,
}

impl TaskFamily {
    /// All tasks, in the simulator's order.
    ///
    /// # Errors
    /// Never, unless this crate was built from a damaged table.
    pub fn all() -> Result<Vec<TaskFamily>, EnvError> {
        let damaged = |reason: String| EnvError::Game {
            path: Path::new("scienceworld/tasks.jsonl.zst").to_path_buf(),
            field: "goals",
            reason,
        };
        let text = zstd::decode_all(TABLE).map_err(|error| damaged(error.to_string()))?;
        let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).map_err(|error| damaged(error.to_string()))).collect()
    }
}

/// The tasks of a suite by split.
pub(super) fn listed(options: &ScienceWorldOptions) -> Result<HashMap<Split, Vec<Arc<Task>>>, EnvError> {
    let families = TaskFamily::all()?;
    let known = |key: &'static str, name: &String| match families.iter().any(|family| family.name == *name) {
        true => Ok(()),
        false => {
            Err(EnvError::Config { key, value: name.clone(), expected: "the name of a ScienceWorld task" })
        }
    };
    options.train_tasks.iter().try_for_each(|name| known("train_tasks", name))?;
    options.unseen_tasks.iter().try_for_each(|name| known("unseen_tasks", name))?;
    let mut tasks: HashMap<Split, Vec<Arc<Task>>> = HashMap::new();
    for family in &families {
        let is_unseen = options.unseen_tasks.contains(&family.name);
        let is_trained =
            options.train_tasks.contains(&family.name) || (options.train_tasks.is_empty() && !is_unseen);
        let mut add = |split: Split, variations: &Range<usize>| {
            let numbered = family.goals.iter().enumerate();
            let chosen = numbered.filter(|(variation, _)| variations.contains(variation));
            tasks.entry(split).or_default().extend(chosen.map(|(variation, goal)| {
                let id = TaskId(format!("{}/{variation}", family.name));
                Arc::new(Task { id, split, family: family.name.clone(), goal: goal.clone() })
            }));
        };
        if is_trained {
            add(Split::Train, &family.train);
            add(Split::ValidTrain, &family.dev);
            add(Split::ValidSeen, &family.test);
        } else if is_unseen {
            add(Split::ValidUnseen, &family.test);
        }
    }
    Ok(tasks)
}

/// Task and variation of an id.
pub(super) fn parts(id: &TaskId) -> Option<(&str, i32)> {
    let (task, variation) = id.0.rsplit_once('/')?;
    Some((task, variation.parse().ok()?))
}
