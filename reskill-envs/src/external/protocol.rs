//! Requests and answers.

use serde::{Deserialize, Serialize};

use crate::suite::{Observation, Split, Step};

/// Version of the protocol.
pub const PROTOCOL: u32 = 1;

/// What is asked of a program.
#[derive(Debug, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(super) enum Request<'a> {
    Hello { protocol: u32 },
    Reset { task: &'a str },
    Step { action: &'a str },
    Expert,
}

impl Request<'_> {
    /// For messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Request::Hello { .. } => "hello",
            Request::Reset { .. } => "reset",
            Request::Step { .. } => "step",
            Request::Expert => "expert",
        }
    }
}

/// Instead of any other answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refusal {
    pub(super) error: String,
}

/// What a program says of itself.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hello {
    pub(super) protocol: u32,
    pub(super) name: String,
    pub(super) tasks: Vec<ListedTask>,
    /// Kinds of commands, with slots: `take {item}`.
    pub(super) vocabulary: Vec<String>,
    #[serde(default)]
    pub(super) expert: bool,
    #[serde(default = "one")]
    pub(super) full_score: f32,
    /// What a language model is told that it does.
    #[serde(default)]
    pub(super) instructions: Option<String>,
}

fn one() -> f32 {
    1.0
}

/// A task as a program lists it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListedTask {
    pub(super) id: String,
    pub(super) split: Split,
    pub(super) family: String,
    pub(super) goal: String,
}

/// Answer to `reset`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seen {
    observation: String,
    #[serde(default)]
    admissible: Vec<String>,
    #[serde(default)]
    objects: Vec<String>,
}

impl From<Seen> for Observation {
    fn from(seen: Seen) -> Observation {
        let Seen { observation: text, admissible, objects } = seen;
        Observation { text, admissible, objects }
    }
}

/// Answer to `step`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stepped {
    observation: String,
    #[serde(default)]
    admissible: Vec<String>,
    #[serde(default)]
    objects: Vec<String>,
    score: f32,
    done: bool,
    won: bool,
}

impl Stepped {
    /// The step; a score above 1, or none at all, makes no sense.
    pub(super) fn step(self) -> Result<Step, String> {
        let Stepped { observation: text, admissible, objects, score, done, won } = self;
        if !(score.is_finite() && score <= 1.0) {
            return Err(format!("a score of {score}, expected at most 1"));
        }
        Ok(Step { observation: Observation { text, admissible, objects }, score, done, won })
    }
}

/// Answer to `expert`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    pub(super) commands: Vec<String>,
}
