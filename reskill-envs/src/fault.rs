//! What can happen to the program that an environment runs in.

use std::time::Duration;

/// A failure of another program: it costs the episode that met it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It could not be started.
    #[error("cannot be started: {reason}")]
    Start {
        /// Why.
        reason: String,
    },
    /// It could not be reached, or the connection broke.
    #[error("lost during `{request}`: {reason}")]
    Lost {
        /// What was asked of it.
        request: String,
        /// Why, with how it ended and its last words where they are known.
        reason: String,
    },
    /// It did not answer in time.
    #[error("no answer to `{request}` within {limit:?}")]
    TimedOut {
        /// What was asked of it.
        request: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// It answered something that makes no sense.
    #[error("answered `{request}` with nonsense: {reason}")]
    Protocol {
        /// What was asked of it.
        request: String,
        /// What was expected and what came.
        reason: String,
    },
    /// It answered that it could not do what was asked.
    #[error("refused `{request}`: {reason}")]
    Refused {
        /// What was asked of it.
        request: String,
        /// What it said.
        reason: String,
    },
}
