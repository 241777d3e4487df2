//! Calls as files, so that a run can be repeated without a model and without a key.
//!
//! `step-000012-contrast-03.json` holds the conversation, the name of the schema, what came of it and what it cost. There
//! is no header, address or key in it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::creator::cost::CreatorCost;
use crate::creator::llm::chat::{ChatError, FailureKind, Message, Reply};
use crate::creator::llm::schema::Schema;
use crate::creator::request::fingerprint;
use crate::store::write_atomically;

/// One recorded call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedCall {
    /// SHA-256 of conversation and schema.
    pub request_sha256: String,
    /// The conversation.
    pub messages: Vec<Message>,
    /// Name of the schema.
    pub schema: String,
    /// What came of it.
    pub outcome: RecordedReply,
    /// What it cost, retries included.
    pub cost: CreatorCost,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordedReply {
    /// A reply.
    Reply(Reply),
    /// A failure that no attempt mended.
    Failed {
        /// Its kind.
        kind: FailureKind,
        /// Its particulars.
        detail: String,
    },
}

/// A folder of recorded calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallFiles {
    /// Calls found there are repeated, others are made and added.
    Record(PathBuf),
    /// Calls found there are repeated, others fail.
    Replay(PathBuf),
}

impl CallFiles {
    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        match self {
            CallFiles::Record(folder) | CallFiles::Replay(folder) => folder,
        }
    }

    /// The record of a call, if there is one of this very request. A replay must find it.
    ///
    /// # Errors
    /// For a replay: [`FailureKind::NotRecorded`], [`FailureKind::RecordDiffers`], [`FailureKind::RecordUnusable`].
    pub fn find(&self, call: &str, request_sha256: &str) -> Result<Option<RecordedCall>, ChatError> {
        let path = self.path(call);
        let found = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<RecordedCall>(&bytes)
                .map_err(|error| (FailureKind::RecordUnusable, format!("{}: {error}", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err((FailureKind::NotRecorded, format!("{}: there is no such file", path.display())))
            }
            Err(error) => Err((FailureKind::RecordUnusable, format!("{}: {error}", path.display()))),
        };
        let found = found.and_then(|call| {
            if call.request_sha256 == request_sha256 {
                return Ok(call);
            }
            let what = "holds the call of another request; replay with the configuration and the version that recorded it";
            Err((FailureKind::RecordDiffers, format!("{}: {what}", path.display())))
        });
        match (self, found) {
            (_, Ok(call)) => Ok(Some(call)),
            (CallFiles::Record(_), Err(_)) => Ok(None),
            (CallFiles::Replay(_), Err((kind, detail))) => Err(ChatError::new(kind, detail)),
        }
    }

    /// Adds a call to a record.
    ///
    /// # Errors
    /// [`FailureKind::RecordUnusable`] if the file cannot be written.
    pub fn add(&self, call: &str, recorded: &RecordedCall) -> Result<(), ChatError> {
        let CallFiles::Record(folder) = self else { return Ok(()) };
        let unusable = |what: String| ChatError::new(FailureKind::RecordUnusable, what);
        std::fs::create_dir_all(folder)
            .map_err(|error| unusable(format!("{}: cannot be made: {error}", folder.display())))?;
        let json = serde_json::to_vec_pretty(recorded).map_err(|error| unusable(error.to_string()))?;
        write_atomically(&self.path(call), &json).map_err(|error| unusable(error.to_string()))
    }

    fn path(&self, call: &str) -> PathBuf {
        self.folder().join(format!("{call}.json"))
    }
}

/// SHA-256 of a conversation and the schema of its answer.
#[must_use]
pub fn request_sha256(messages: &[Message], schema: &Schema) -> String {
    // Plain values: they can always be written as JSON.
    fingerprint(&serde_json::to_vec(&(messages, schema.value())).unwrap_or_default())
}
