//! The two traits of every environment: a suite of tasks, and one running episode.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::action::ActionVocabulary;
use crate::error::EnvError;

/// Identifier of a task, stable across runs, e.g. `train/pick_cool-apple-shelf/0017`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub String);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The part of a benchmark a task belongs to. The names are ALFWorld's folder names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Training tasks.
    Train,
    /// Held-out tasks drawn as the training tasks are.
    ValidSeen,
    /// Held-out tasks in places, or of object pairs, never trained on.
    ValidUnseen,
    /// Further held-out tasks from the training houses (ALFWorld only).
    ValidTrain,
}

impl Split {
    /// All splits, in the order of their folders.
    pub const ALL: [Split; 4] = [Split::Train, Split::ValidSeen, Split::ValidUnseen, Split::ValidTrain];

    /// The folder name of the split.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::ValidSeen => "valid_seen",
            Split::ValidUnseen => "valid_unseen",
            Split::ValidTrain => "valid_train",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One task of a suite.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Task {
    /// Stable identifier.
    pub id: TaskId,
    /// The split it belongs to.
    pub split: Split,
    /// Task family, e.g. `pick_cool_then_place_in_recep`. Results are broken down by it.
    pub family: String,
    /// The goal in words, as shown to the agent.
    pub goal: String,
}

/// What an agent sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Text of the observation.
    pub text: String,
    /// Admissible commands in the environment's order; empty if it does not list them.
    pub admissible: Vec<String>,
}

/// Result of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What the agent sees next.
    pub observation: Observation,
    /// Cumulative score in 0..=1 (1 when the goal is reached).
    pub score: f32,
    /// The episode is over.
    pub done: bool,
    /// The goal is reached.
    pub won: bool,
}

/// A benchmark: tasks by split, and a way to open each.
pub trait Suite: Send + Sync {
    /// Short name, e.g. `household`.
    fn name(&self) -> &str;

    /// The tasks of a split, in a stable order.
    fn tasks(&self, split: Split) -> &[Arc<Task>];

    /// Starts a task. Environments of one task share what does not change.
    ///
    /// # Errors
    /// [`EnvError::UnknownTask`]; whatever makes the game file unreadable.
    fn open(&self, id: &TaskId) -> Result<Box<dyn TextEnv>, EnvError>;

    /// The action templates of the environment, for parsers and for the skill creator.
    fn vocabulary(&self) -> &ActionVocabulary;
}

/// One running episode.
pub trait TextEnv: Send {
    /// (Re)starts the episode and returns the first observation.
    fn reset(&mut self) -> Observation;

    /// Plays one command. A command that is not admissible changes nothing and says so.
    fn step(&mut self, action: &str) -> Step;

    /// Commands that solve the task from the current state.
    ///
    /// # Errors
    /// [`EnvError::NoPlan`] if the search finds none.
    fn expert(&self) -> Result<Vec<String>, EnvError>;

    /// A copy of the environment in its present state.
    fn boxed_clone(&self) -> Box<dyn TextEnv>;
}
