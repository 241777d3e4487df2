//! Settings of environments in other programs.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::EnvError;

/// Which command is run, and how long it is waited for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ExternalOptions {
    /// The program and its arguments, e.g. `["python3", "my_env.py"]`.
    pub command: Vec<String>,
    /// The folder it runs in. Absent: the current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// Processes at most, >= 1: episodes that run at once.
    pub processes: usize,
    /// Longest wait for an answer, seconds, > 0. Then the episode is given up.
    pub timeout_secs: f64,
    /// Longest wait for the first answer of a process, seconds, > 0.
    pub start_timeout_secs: f64,
    /// Longest answer, bytes, >= 1024.
    pub max_line_bytes: usize,
}

impl Default for ExternalOptions {
    fn default() -> Self {
        ExternalOptions {
            command: Vec::new(),
            folder: None,
            processes: 16,
            timeout_secs: 60.0,
            start_timeout_secs: 60.0,
            max_line_bytes: 16 << 20,
        }
    }
}

impl ExternalOptions {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`EnvError::Config`].
    pub fn validate(&self) -> Result<(), EnvError> {
        let refuse = |key, value: String, expected| Err(EnvError::Config { key, value, expected });
        if self.command.first().is_none_or(String::is_empty) {
            return refuse("command", "[]".into(), "a program and its arguments");
        }
        if self.processes == 0 {
            return refuse("processes", "0".into(), "at least 1");
        }
        if self.max_line_bytes < 1024 {
            return refuse("max_line_bytes", self.max_line_bytes.to_string(), "at least 1024");
        }
        for (key, value) in
            [("timeout_secs", self.timeout_secs), ("start_timeout_secs", self.start_timeout_secs)]
        {
            if !(value > 0.0 && value <= 86_400.0) {
                return refuse(key, value.to_string(), "seconds in (0, 86400]");
            }
        }
        Ok(())
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs_f64(self.timeout_secs)
    }

    pub(super) fn start_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.start_timeout_secs)
    }
}
