//! Errors of the skills crate.

use std::path::PathBuf;

/// What can go wrong with skills, banks, tests and files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SkillError {
    /// A regular expression does not compile or would fire on everything.
    #[error("pattern `{pattern}`: {reason}")]
    BadPattern {
        /// The source of the expression.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A skill's text breaks a limit.
    #[error("skill `{skill}`: {field} has {got}, expected {expected}")]
    Limit {
        /// Name of the skill.
        skill: String,
        /// Which part of it.
        field: &'static str,
        /// What was found.
        got: String,
        /// What is allowed.
        expected: String,
    },
    /// A guidance sentence is not of the form `next <verb>` or `do not <verb>`.
    #[error("guidance `{text}`: expected `next <verb>` or `do not <verb>`")]
    Guidance {
        /// The text.
        text: String,
    },
    /// An operation names a skill that the bank does not hold.
    #[error("operation {index}: no skill `{id}` in the bank")]
    UnknownSkill {
        /// Position of the operation in its bundle.
        index: usize,
        /// The id it names.
        id: String,
    },
    /// Two skills of one bank would share a name or an id.
    #[error("two skills share the {field} `{value}`")]
    Duplicate {
        /// `name` or `id`.
        field: &'static str,
        /// The shared value.
        value: String,
    },
    /// A bundle or a bank would be too large.
    #[error("{what}: {got}, expected {expected}")]
    Count {
        /// What was counted.
        what: &'static str,
        /// How many there are.
        got: usize,
        /// How many are allowed.
        expected: String,
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
    /// An episode was played by an arm that does not exist now.
    #[error("step {step}: an episode was played by {arm}, which is not under test")]
    UnknownArm {
        /// The training step.
        step: u64,
        /// The arm.
        arm: String,
    },
    /// A test was to be started while one is running.
    #[error("step {step}: a version test is already running")]
    TestRunning {
        /// The training step.
        step: u64,
    },
    /// A proposal does not pass the gate.
    #[error("skill `{skill}`: {reason}")]
    Refused {
        /// The skill.
        skill: String,
        /// What the gate measured.
        reason: String,
    },
    /// A call to a language model gave nothing that can be used.
    #[cfg(feature = "llm")]
    #[error("call `{call}`")]
    Chat {
        /// Name of the call.
        call: String,
        /// Why.
        #[source]
        source: crate::creator::llm::ChatError,
    },
    /// A prompt file is malformed.
    #[error("{path}: {reason}", path = path.display())]
    Prompt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A creator cannot be used as configured.
    #[error("`creator.kind` = \"{kind}\": {reason}")]
    Creator {
        /// The kind of creator.
        kind: &'static str,
        /// What is missing, and what to do.
        reason: String,
    },
    /// Skills to be imported have names that are taken.
    #[error(
        "{folder}: {names} there already, with other content; nothing was imported: replace them or rename the new ones",
        folder = folder.display(),
        names = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    )]
    Conflicts {
        /// The library.
        folder: PathBuf,
        /// The names.
        names: Vec<String>,
    },
    /// A diff does not fit a bank.
    #[error("the diff does not fit the bank: {reason}")]
    Patch {
        /// What does not match.
        reason: String,
    },
    /// An edit of the assertions is not valid.
    #[error("assertion edit {index}: {reason}")]
    AssertionEdit {
        /// Position among the edits.
        index: usize,
        /// Why it is refused.
        reason: String,
    },
    /// A SKILL.md file is malformed.
    #[error("{path}:{line}: {reason}", path = path.display())]
    SkillFile {
        /// The file.
        path: PathBuf,
        /// 1-based line.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A line of the history cannot be read or written.
    #[error("{path}: line {line}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// 1-based line.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file or folder cannot be read or written.
    #[error("{path}: cannot be {verb}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        verb: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// The message without line breaks: errors of parsers draw pictures.
pub(crate) fn one_line(error: &impl std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
