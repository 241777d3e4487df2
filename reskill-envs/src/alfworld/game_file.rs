//! The content of a `game.tw-pddl` file.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{EnvError, prefix};

/// A game as its file states it. The keys and their order are those of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GameFile {
    /// The rules, in PDDL.
    pub pddl_domain: String,
    /// The texts, in the grammar language of TextWorld.
    pub grammar: String,
    /// Objects, first facts and goal, in PDDL.
    pub pddl_problem: String,
    /// Whether the goal can be reached.
    pub solvable: bool,
    /// Commands that reach the goal.
    pub walkthrough: Vec<String>,
}

impl GameFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`EnvError::Read`]; [`EnvError::Game`] if it is no JSON object with the five keys.
    pub fn read(path: &Path) -> Result<GameFile, EnvError> {
        let text = std::fs::read(path).map_err(|source| EnvError::Read { path: path.into(), source })?;
        GameFile::from_json(&text, path)
    }

    /// Reads the content of the file `path`, which is named in errors.
    ///
    /// # Errors
    /// [`EnvError::Game`] if it is no JSON object with the five keys.
    pub fn from_json(json: &[u8], path: &Path) -> Result<GameFile, EnvError> {
        let malformed = |field, reason| EnvError::Game { path: path.into(), field, reason };
        let value: serde_json::Value =
            serde_json::from_slice(json).map_err(|error| malformed("json", error.to_string()))?;
        let text = |field: &'static str| match value.get(field) {
            Some(serde_json::Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(malformed(field, "expected a text".into())),
            None => Err(malformed(field, "the key is missing".into())),
        };
        let [pddl_domain, grammar, pddl_problem] =
            [text("pddl_domain")?, text("grammar")?, text("pddl_problem")?];
        let walkthrough = match value.get("walkthrough") {
            Some(commands) => Vec::<String>::deserialize(commands)
                .map_err(|error| malformed("walkthrough", error.to_string()))?,
            None => return Err(malformed("walkthrough", "the key is missing".into())),
        };
        let solvable = value.get("solvable").and_then(serde_json::Value::as_bool);
        Ok(GameFile {
            pddl_domain,
            grammar,
            pddl_problem,
            solvable: solvable.ok_or_else(|| malformed("solvable", "expected true or false".into()))?,
            walkthrough,
        })
    }
}

/// Names the file and its key in an error of the interpreter.
pub(crate) fn in_file(error: EnvError, path: &Path) -> EnvError {
    match error {
        EnvError::Syntax { part, at, reason } => {
            let reason = format!("{}{reason}", prefix(at));
            let (field, reason) = match part {
                "domain" => ("pddl_domain", reason),
                "grammar" => ("grammar", reason),
                "goal" => ("pddl_problem", format!(":goal: {reason}")),
                _ => ("pddl_problem", reason),
            };
            EnvError::Game { path: path.into(), field, reason }
        }
        other => other,
    }
}

/// The goal of a task line: what follows its first `: `, or all of it.
pub(crate) fn goal_of(task_line: &str) -> &str {
    task_line.split_once(": ").map_or(task_line, |(_, goal)| goal)
}
