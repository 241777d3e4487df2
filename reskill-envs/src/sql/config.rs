//! Settings of the SQL environment.

use serde::{Deserialize, Serialize};

use crate::error::EnvError;

/// What an agent may ask, what it is shown, and which databases it never sees in training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct SqlConfig {
    /// Databases whose tasks are `valid_unseen`. Absent: [`UNSEEN`], as far as the data has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen: Option<Vec<String>>,
    /// Actions in an episode; after the last one what was seen is submitted. 0: no limit. Default 10.
    pub max_turns: usize,
    /// Lists commands made from the schema and the words of the question: help for policies that choose from a list. The
    /// commands know nothing of the gold query. Default false.
    pub candidates: bool,
    /// Commands in that list at most, 8..=512. Default 64.
    pub max_candidates: usize,
    /// Shows tables and columns with the question (InterCode's "handicap"). Default false.
    pub show_schema: bool,
    /// Rows that an observation shows; the reward counts all. 0: all. Default 0.
    pub shown_rows: usize,
    /// Characters that an observation shows. 0: all. Default 0.
    pub shown_chars: usize,
    /// Rows of a result, at least 1; a query with more fails. Default 10,000.
    pub max_rows: usize,
    /// Bytes of a printed result, at least 1000; a query with more fails. Default 4,194,304.
    pub max_result_bytes: usize,
    /// Instructions of SQLite's virtual machine in a query, at least 1000: a limit that is the same on every machine.
    /// Default 20,000,000 (a fraction of a second).
    pub max_instructions: u64,
    /// Seconds for a query, in 0.01..=3600, where instructions are long. Default 5.
    pub timeout_secs: f64,
}

/// The databases of InterCode's Spider tasks that are kept for `valid_unseen`: 200 of 972 tasks.
pub const UNSEEN: [&str; 4] = ["network_1", "orchestra", "pets_1", "tvshow"];

impl Default for SqlConfig {
    fn default() -> Self {
        SqlConfig {
            unseen: None,
            max_turns: 10,
            candidates: false,
            max_candidates: 64,
            show_schema: false,
            shown_rows: 0,
            shown_chars: 0,
            max_rows: 10_000,
            max_result_bytes: 4 << 20,
            max_instructions: 20_000_000,
            timeout_secs: 5.0,
        }
    }
}

impl SqlConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`EnvError::Config`] for the first value that is out of range.
    pub fn validate(&self) -> Result<(), EnvError> {
        let out_of_range = |key, value: String, expected| Err(EnvError::Config { key, value, expected });
        if !(8..=512).contains(&self.max_candidates) {
            return out_of_range("max_candidates", self.max_candidates.to_string(), "8 to 512");
        }
        if self.max_rows == 0 {
            return out_of_range("max_rows", "0".to_owned(), "at least 1");
        }
        if self.max_result_bytes < 1000 {
            return out_of_range("max_result_bytes", self.max_result_bytes.to_string(), "at least 1000");
        }
        if self.max_instructions < 1000 {
            return out_of_range("max_instructions", self.max_instructions.to_string(), "at least 1000");
        }
        if !(0.01..=3600.0).contains(&self.timeout_secs) {
            return out_of_range("timeout_secs", self.timeout_secs.to_string(), "a number in [0.01, 3600]");
        }
        Ok(())
    }
}
