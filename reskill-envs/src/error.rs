//! Errors of the environments.

use std::path::PathBuf;

use crate::fault::Fault;

/// What can go wrong when games are read, generated, planned or played.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvError {
    /// A file or folder could not be read.
    #[error("{path}: cannot be read", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file or folder could not be written.
    #[error("{path}: cannot be written", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The path holds nothing that looks like a game.
    #[error("{path}: no games found; expected {expected}", path = path.display())]
    NoGames {
        /// The path that was searched.
        path: PathBuf,
        /// What would have been accepted.
        expected: &'static str,
    },
    /// A game file is malformed.
    #[error("{path}: field `{field}`: {reason}", path = path.display())]
    Game {
        /// The file.
        path: PathBuf,
        /// The key of the game file that is at fault.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A record of a file of questions or passages is malformed.
    #[error("{path}: {place}{reason}", path = path.display(), place = record_place(*number, field))]
    Record {
        /// The file.
        path: PathBuf,
        /// The line or row, from 1; 0 for the file as a whole.
        number: usize,
        /// The field at fault; empty for the record as a whole.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A search index is missing, damaged, of another version, or not that of its corpus.
    #[error("{path}: {reason}", path = path.display())]
    Index {
        /// The folder of the index.
        path: PathBuf,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A text could not be turned into a vector.
    #[error("embedding model: {reason}")]
    Embedding {
        /// Why.
        reason: String,
    },
    /// The rules or the grammar of a game cannot be interpreted.
    #[error("{part}: {place}{reason}", place = prefix(*at))]
    Syntax {
        /// `domain`, `problem`, `goal` or `grammar`.
        part: &'static str,
        /// Where in the text of that part, if it is about one place.
        at: Option<Position>,
        /// What was found and what was expected.
        reason: String,
    },
    /// No such task in this suite.
    #[error("unknown task `{id}`")]
    UnknownTask {
        /// The id that was asked for.
        id: String,
    },
    /// The planner found no way to the goal.
    #[error("no plan for task `{id}` after {states} states")]
    NoPlan {
        /// The task.
        id: String,
        /// How many states were searched.
        states: usize,
    },
    /// What a task is judged by cannot be worked out.
    #[error("task `{id}`: the gold answer cannot be had: {reason}")]
    Gold {
        /// The task.
        id: String,
        /// Why.
        reason: String,
    },
    /// The program that an environment runs in failed. It costs the episode that met it, never a run.
    #[error("{program}: {fault}")]
    Fault {
        /// The program, e.g. `scienceworld.jar`.
        program: String,
        /// What happened to it.
        fault: Fault,
    },
    /// An episode with the same commands went another way the second time.
    #[error("task `{id}` plays differently the second time, from turn {turn} on")]
    NotReproducible {
        /// The task.
        id: String,
        /// The first turn that differs; 0 is the start.
        turn: usize,
    },
    /// The environment has no such thing.
    #[error("this environment has no {what}")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
    },
    /// A configuration value is out of range.
    #[error("`{key}` = {value}, expected {expected}")]
    Config {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// The range.
        expected: &'static str,
    },
}

impl EnvError {
    /// Whether the error costs the episode that met it and nothing else.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        matches!(self, EnvError::Fault { .. })
    }
}

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in bytes, from 1.
    pub column: u32,
}

impl Position {
    /// The place `offset` bytes into a text.
    pub(crate) fn of(text: &str, offset: usize) -> Position {
        let before = &text.as_bytes()[..offset.min(text.len())];
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let line = before.iter().filter(|&&byte| byte == b'\n').count() as u32 + 1;
        Position { line, column: (before.len() - line_start) as u32 + 1 }
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// `line 3, column 4: `, or nothing.
pub(crate) fn prefix(at: Option<Position>) -> String {
    at.map_or(String::new(), |at| format!("{at}: "))
}

/// Number and field of a record, or as much of it as there is.
fn record_place(number: usize, field: &str) -> String {
    match (number, field) {
        (0, "") => String::new(),
        (0, field) => format!("field `{field}` "),
        (number, "") => format!("record {number}: "),
        (number, field) => format!("record {number}: field `{field}` "),
    }
}
