//! The section `[log]`: what a run writes for people and other programs beside its results.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a run writes beside its results. Nothing here changes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Whether `tensorboard/` holds the numbers of `metrics.jsonl` as TensorBoard event files.
    pub tensorboard: bool,
    /// Address (`127.0.0.1:9090`) at which the latest numbers are served for Prometheus under `/metrics` while the run
    /// lasts; port 0 takes a free one. Absent: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<SocketAddr>,
    /// Which episodes are kept.
    pub episodes: KeptEpisodes,
}

/// Which episodes `episodes.jsonl` keeps, turn by turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeptEpisodes {
    /// Steps between training steps of which groups are kept, the first one included; 0: none.
    pub every: u64,
    /// Groups kept of each of these steps, >= 1.
    pub groups: usize,
    /// Games kept of each split in the evaluations before and after training, spread over the task families; 0: none.
    pub games: usize,
}

impl Default for KeptEpisodes {
    fn default() -> Self {
        KeptEpisodes { every: 10, groups: 2, games: 12 }
    }
}

impl LogConfig {
    /// Refuses values out of range.
    ///
    /// # Errors
    /// One line that names the key.
    pub fn validate(&self) -> Result<()> {
        if self.episodes.groups == 0 {
            bail!(
                "`episodes.groups` = 0, expected at least 1; keep no training episodes with episodes.every = 0"
            );
        }
        Ok(())
    }
}
