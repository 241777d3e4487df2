//! The two traits of every environment: a suite of tasks, and one running episode.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::action::ActionVocabulary;
use crate::episode::Episode;
use crate::error::EnvError;
use crate::prompt::Manner;

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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Observation {
    /// Text of the observation.
    pub text: String,
    /// Admissible commands in the environment's order; empty if it does not list them.
    pub admissible: Vec<String>,
    /// Names that commands can be about now, from an environment that tells them instead of listing commands; empty
    /// if it does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
}

impl Observation {
    /// A text and the commands that are admissible.
    #[must_use]
    pub fn new(text: impl Into<String>, admissible: Vec<String>) -> Observation {
        Observation { text: text.into(), admissible, objects: Vec::new() }
    }
}

/// Result of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What the agent sees next.
    pub observation: Observation,
    /// Score of the episode so far, as the environment counts it: at most 1, which is all that can be reached. It may be
    /// partial, may fall again, and may be negative where the environment punishes.
    pub score: f32,
    /// The episode is over.
    pub done: bool,
    /// The episode counts as a success if it ends here.
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
    /// [`EnvError::UnknownTask`]; whatever makes the game file unreadable; [`EnvError::Fault`] if the program behind the
    /// environment cannot be had, which costs this episode only.
    fn open(&self, id: &TaskId) -> Result<Box<dyn TextEnv>, EnvError>;

    /// The action templates of the environment, for parsers and for the skill creator.
    fn vocabulary(&self) -> &ActionVocabulary;

    /// Episodes that can run at once. More than that are refused.
    fn max_running(&self) -> usize {
        usize::MAX
    }

    /// What the benchmark itself calls a full score: printed scores are [`Step::score`] times this.
    fn full_score(&self) -> f32 {
        1.0
    }

    /// The words of its prompts, and how replies are read; those of a text game unless it says otherwise.
    fn manner(&self) -> Manner {
        Manner::default()
    }

    /// Measures of a finished episode beside success and score, by name, for evaluations to average; none by default.
    fn measures(&self, _episode: &Episode) -> Vec<(&'static str, f64)> {
        Vec::new()
    }
}

/// One running episode.
///
/// An environment that runs in another program (a simulator, a server) can lose it in the middle of an episode. Then
/// [`TextEnv::reset`] or [`TextEnv::step`] returns [`EnvError::Fault`]: the episode is lost and marked as such
/// ([`Episode::fault`](crate::Episode::fault)), and the next one is opened on a program that works.
pub trait TextEnv: Send {
    /// (Re)starts the episode and returns the first observation.
    ///
    /// # Errors
    /// [`EnvError::Fault`]. An engine of this process has none.
    fn reset(&mut self) -> Result<Observation, EnvError>;

    /// Plays one command. A command that is not admissible changes nothing and says so.
    ///
    /// # Errors
    /// [`EnvError::Fault`]. An engine of this process has none.
    fn step(&mut self, action: &str) -> Result<Step, EnvError>;

    /// Commands that solve the task from the current state.
    ///
    /// # Errors
    /// [`EnvError::NoPlan`] if none is found; [`EnvError::Unsupported`], the default, if the environment has no expert;
    /// [`EnvError::Fault`].
    fn expert(&mut self) -> Result<Vec<String>, EnvError> {
        Err(EnvError::Unsupported { what: "expert" })
    }

    /// A copy of the environment in its present state.
    ///
    /// # Errors
    /// [`EnvError::Unsupported`], the default, if its state cannot be copied; [`EnvError::Fault`].
    fn boxed_clone(&self) -> Result<Box<dyn TextEnv>, EnvError> {
        Err(EnvError::Unsupported { what: "copy of a running episode" })
    }
}
