//! What happened in one episode, as text: the types that environments, skills and the trainer share.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::suite::Task;

/// One piece of a prompt, as text. Each segment is encoded alone and the prompt is the concatenation of the ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Segment {
    /// Text that stays in the context for the rest of the episode: it only ever grows.
    Trunk(String),
    /// Text that is true for this turn only and is dropped after the reply.
    Branch(String),
}

/// Whether an episode reached its goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The goal was reached.
    Success,
    /// The goal was not reached within the turn limit.
    Failure,
}

/// One turn: what the agent saw, what it said, what it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// The observation the agent answered to.
    pub observation: String,
    /// The commands that were admissible at this turn, in the environment's order; empty if the environment does
    /// not list them.
    pub admissible: Vec<String>,
    /// The raw reply of the policy.
    pub reply: String,
    /// The action parsed from the reply; `None` if no action could be read.
    pub action: Option<String>,
    /// Whether the action was parsed and admissible. An invalid turn is penalised.
    pub valid: bool,
}

/// One finished episode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// The task that was played.
    pub task: Arc<Task>,
    /// The turns in order.
    pub turns: Vec<Turn>,
    /// What the environment said after the last action.
    pub final_observation: String,
    /// Success or failure.
    pub outcome: Outcome,
    /// Undiscounted return of the episode, without penalties, in reward units.
    pub return_: f32,
    /// Score at the end, as the environment counts it: at most 1, perhaps partial, perhaps negative.
    #[serde(default)]
    pub score: f32,
    /// Why the environment lost this episode before its end. Such an episode says nothing about the policy: it is no
    /// success and no failure, and counts nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

impl Episode {
    /// The parsed actions in order; turns without one are skipped.
    pub fn actions(&self) -> impl Iterator<Item = &str> {
        self.turns.iter().filter_map(|turn| turn.action.as_deref())
    }

    /// The observation that followed turn `turn_idx`.
    #[must_use]
    pub fn feedback(&self, turn_idx: usize) -> &str {
        self.turns.get(turn_idx + 1).map_or(&self.final_observation, |turn| &turn.observation)
    }

    /// Whether the goal was reached.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.outcome == Outcome::Success
    }

    /// Whether the environment lost the episode.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.fault.is_some()
    }
}
