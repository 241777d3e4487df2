//! The questions of the benchmark, and which split each belongs to.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use serde::Deserialize;

use super::config::{SqlConfig, UNSEEN};
use crate::error::EnvError;
use crate::suite::Split;

/// The file of questions.
const FILE: &str = "ic_spider_dev.json";

/// Databases that are left out: their tables are empty upstream.
const EMPTY: [&str; 1] = ["wta_1"];

/// One in so many gold queries of a training database is `valid_seen`.
const SEEN_EVERY: usize = 6;

/// A question with its gold query.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct SqlTask {
    /// Name of the database.
    pub(crate) db: String,
    /// The query whose rows are wanted.
    pub(crate) gold: String,
    /// The question.
    #[serde(rename = "query")]
    pub(crate) question: String,
    /// `easy`, `medium`, `hard` or `extra`.
    pub(crate) hardness: String,
}

/// Reads `<folder>/ic_spider_dev.json`: the tasks with their rows (from 0) in the file, without those of empty databases.
///
/// # Errors
/// [`EnvError::Read`]; [`EnvError::Game`] if it is no list of tasks, or if none is left.
pub(crate) fn read(folder: &Path) -> Result<Vec<(usize, SqlTask)>, EnvError> {
    let path = folder.join(FILE);
    let text =
        std::fs::read_to_string(&path).map_err(|source| EnvError::Read { path: path.clone(), source })?;
    let broken = |field, reason: String| EnvError::Game { path: path.clone(), field, reason };
    let tasks: Vec<SqlTask> =
        serde_json::from_str(&text).map_err(|error| broken("tasks", error.to_string()))?;
    for (row, task) in tasks.iter().enumerate() {
        // The name becomes part of a path.
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if task.db.is_empty() || !task.db.chars().all(is_name) {
            let reason = format!("`{}` in row {row}, expected letters, digits, `_` and `-`", task.db);
            return Err(broken("db", reason));
        }
    }
    let kept: Vec<(usize, SqlTask)> =
        tasks.into_iter().enumerate().filter(|(_, task)| !EMPTY.contains(&task.db.as_str())).collect();
    if kept.is_empty() {
        return Err(EnvError::NoGames {
            path,
            expected: "a list of tasks with db, gold, query and hardness",
        });
    }
    Ok(kept)
}

/// The split of each task.
///
/// Tasks of the databases in `config.unseen` are `valid_unseen`. Of the others every sixth *gold query* is `valid_seen`,
/// with all questions that ask for it: most queries have two questions that say the same.
///
/// # Errors
/// [`EnvError::Config`] if `config.unseen` names a database that no task has, or all of them.
pub(crate) fn splits(tasks: &[(usize, SqlTask)], config: &SqlConfig) -> Result<Vec<Split>, EnvError> {
    let names: BTreeSet<&str> = tasks.iter().map(|(_, task)| task.db.as_str()).collect();
    let unseen: Vec<&str> = match &config.unseen {
        Some(unseen) => unseen.iter().map(String::as_str).collect(),
        None => UNSEEN.into_iter().filter(|name| names.contains(name)).collect(),
    };
    let refused = |value: String| EnvError::Config {
        key: "unseen",
        value,
        expected: "names of databases of the data, not all of them",
    };
    if let Some(unknown) = unseen.iter().find(|name| !names.contains(*name)) {
        return Err(refused((*unknown).to_owned()));
    }
    if names.iter().all(|name| unseen.contains(name)) {
        return Err(refused(unseen.join(", ")));
    }
    // Numbers of the distinct gold queries of each database, in the order of the file.
    let mut golds: HashMap<&str, HashMap<String, usize>> = HashMap::new();
    let mut splits = Vec::with_capacity(tasks.len());
    for (_, task) in tasks {
        let of_database = golds.entry(task.db.as_str()).or_default();
        let next = of_database.len();
        let number = *of_database.entry(same_query(&task.gold)).or_insert(next);
        splits.push(if unseen.contains(&task.db.as_str()) {
            Split::ValidUnseen
        } else if number % SEEN_EVERY == SEEN_EVERY - 1 {
            Split::ValidSeen
        } else {
            Split::Train
        });
    }
    Ok(splits)
}

/// A query in a form that is the same for the same query.
fn same_query(gold: &str) -> String {
    let words: Vec<&str> = gold.trim_end_matches([';', ' ']).split_whitespace().collect();
    words.join(" ").to_lowercase()
}
