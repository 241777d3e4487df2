//! The one thing a language model must do: answer a conversation with a reply of a given shape.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::creator::llm::schema::Schema;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Standing instructions; at most one message, the first.
    System,
    /// The stage that asks.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name in the APIs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message.
    #[must_use]
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// Tokens of one call, as the server counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Of the conversation.
    pub prompt_tokens: u64,
    /// Of the reply.
    pub completion_tokens: u64,
}

/// What a model answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The text; JSON if the model did as it was told.
    pub text: String,
    /// The cost.
    pub usage: Usage,
}

/// What can go wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// Status 429.
    RateLimited,
    /// Status 408 or 5xx.
    Server,
    /// Status 401 or 403.
    Unauthorized,
    /// Any other status that is no success, redirects included.
    Rejected,
    /// No answer in time.
    Timeout,
    /// No connection, or one that broke.
    Connection,
    /// A response beyond the size limit.
    TooLarge,
    /// A response that is not what the API promises, e.g. JSON that breaks off.
    Malformed,
    /// A reply without text.
    Empty,
    /// A reply that reached the token limit.
    LengthLimit,
    /// The model or a filter declined.
    Declined,
    /// A reply in which no JSON was found.
    NotJson,
    /// A reply whose JSON has another shape than the stage needs.
    WrongSchema,
    /// A replay that has no record of the call.
    NotRecorded,
    /// A replay whose record is of another request.
    RecordDiffers,
    /// A record that cannot be read or written.
    RecordUnusable,
    /// The step that needed the answer has given up.
    CalledOff,
}

impl FailureKind {
    /// The name in ledgers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            FailureKind::RateLimited => "rate_limited",
            FailureKind::Server => "server",
            FailureKind::Unauthorized => "unauthorized",
            FailureKind::Rejected => "rejected",
            FailureKind::Timeout => "timeout",
            FailureKind::Connection => "connection",
            FailureKind::TooLarge => "too_large",
            FailureKind::Malformed => "malformed",
            FailureKind::Empty => "empty",
            FailureKind::LengthLimit => "length_limit",
            FailureKind::Declined => "declined",
            FailureKind::NotJson => "not_json",
            FailureKind::WrongSchema => "wrong_schema",
            FailureKind::NotRecorded => "not_recorded",
            FailureKind::RecordDiffers => "record_differs",
            FailureKind::RecordUnusable => "record_unusable",
            FailureKind::CalledOff => "called_off",
        }
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_passing(self) -> bool {
        matches!(
            self,
            FailureKind::RateLimited
                | FailureKind::Server
                | FailureKind::Timeout
                | FailureKind::Connection
                | FailureKind::Malformed
                | FailureKind::Empty
        )
    }

    /// Whether every other call would fail in the same way, so that none need be tried.
    #[must_use]
    pub fn concerns_all_calls(self) -> bool {
        matches!(self, FailureKind::Unauthorized | FailureKind::Rejected | FailureKind::CalledOff)
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A call that failed. The detail never holds a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {detail}")]
pub struct ChatError {
    /// What went wrong.
    pub kind: FailureKind,
    /// The particulars, in a line.
    pub detail: String,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
}

impl ChatError {
    /// A failure without a wish to wait.
    #[must_use]
    pub fn new(kind: FailureKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), retry_after: None }
    }
}

/// A language model: a server behind HTTP, a generator in this process, a script in a test.
///
/// Any `Fn(&[Message], &Schema) -> Result<Reply, ChatError>` is one, so the policy in training can write its own
/// skills. Retries, records, limits and the check of the reply lie outside.
pub trait ChatModel: Send + Sync {
    /// Answers a conversation. The reply should be JSON of the schema's shape; it is checked and mended by the caller.
    ///
    /// # Errors
    /// [`ChatError`]; the kind decides whether the call is tried again.
    fn complete(&self, messages: &[Message], schema: &Schema) -> Result<Reply, ChatError>;
}

impl<F> ChatModel for F
where
    F: Fn(&[Message], &Schema) -> Result<Reply, ChatError> + Send + Sync,
{
    fn complete(&self, messages: &[Message], schema: &Schema) -> Result<Reply, ChatError> {
        self(messages, schema)
    }
}
