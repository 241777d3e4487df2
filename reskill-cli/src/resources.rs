//! Time and memory of a run.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// Seconds and tokens by phase, over all sessions of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Costs {
    /// Wall-clock seconds by phase.
    pub seconds: BTreeMap<String, f64>,
    /// Tokens through the network by phase.
    pub tokens: BTreeMap<String, u64>,
}

impl Costs {
    /// Adds the time since `start`, and tokens, to a phase; returns the seconds.
    pub fn add(&mut self, phase: &str, start: Instant, tokens: u64) -> f64 {
        let seconds = start.elapsed().as_secs_f64();
        *self.seconds.entry(phase.to_string()).or_default() += seconds;
        *self.tokens.entry(phase.to_string()).or_default() += tokens;
        seconds
    }

    /// Seconds of all phases.
    #[must_use]
    pub fn total_seconds(&self) -> f64 {
        self.seconds.values().sum()
    }
}

/// The largest resident memory of this process so far, in bytes; 0 where the system does not tell.
#[must_use]
pub fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
