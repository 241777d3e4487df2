//! Text environments for language-model agents.
//!
//! One trait pair serves every benchmark: a [`Suite`] lists tasks by split and opens them, a [`TextEnv`] is one
//! running episode. [`alfworld`] plays real ALFWorld `game.tw-pddl` files natively, and [`household`] generates games of
//! the same file shape, with its own houses and its own wording; [`external`] is any program that speaks JSON over a pipe.
//! Behind features: `scienceworld` (science tasks, by the original simulator), `sql` (InterCode-SQL: questions over
//! databases) and `wands` (product choices).
//!
//! ```no_run
//! use reskill_envs::{Split, Suite, household::{Household, HouseholdConfig}};
//!
//! let suite = Household::generate(&HouseholdConfig::default())?;
//! let task = &suite.tasks(Split::Train)[0];
//! let mut env = suite.open(&task.id)?;
//! let first = env.reset()?;
//! println!("{}\n{:?}", first.text, first.admissible);
//! # Ok::<(), reskill_envs::EnvError>(())
//! ```
#![forbid(unsafe_code)]

pub mod episode;
pub mod suite;
pub mod action;
pub mod prompt;
pub mod plain_prompt;
pub mod check;
pub mod error;
pub mod fault;
pub mod alfworld;
pub mod household;
#[cfg(feature = "search")]
pub mod search;
#[cfg(feature = "sql")]
pub mod sql;
#[cfg(feature = "wands")]
pub mod wands;
pub mod external;
#[cfg(feature = "scienceworld")]
pub mod scienceworld;

pub use action::{ActionTemplate, ActionVocabulary, ParsedAction};
pub use episode::{Episode, Outcome, Segment, Turn};
pub use error::{EnvError, Position};
pub use fault::Fault;
pub use suite::{Observation, Split, Step, Suite, Task, TaskId, TextEnv};
