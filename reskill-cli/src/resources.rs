//! Time and memory of a run.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// Seconds and tokens by phase, added up if the run was interrupted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Costs {
    /// Wall-clock seconds by phase.
    pub seconds: BTreeMap<String, f64>,
    /// Tokens through the network by phase.
    pub tokens: BTreeMap<String, u64>,
    /// Wall-clock seconds of the whole run, what lies between the phases included.
    pub wall_seconds: f64,
    /// Largest resident memory so far, in bytes.
    pub peak_rss_bytes: u64,
}

impl Costs {
    /// Adds the time since `start`, and tokens, to a phase; returns the seconds.
    pub fn add(&mut self, phase: &str, start: Instant, tokens: u64) -> f64 {
        let seconds = start.elapsed().as_secs_f64();
        *self.seconds.entry(phase.to_string()).or_default() += seconds;
        *self.tokens.entry(phase.to_string()).or_default() += tokens;
        seconds
    }

    /// Adds the wall-clock time since `since`, which is set to now, and notes the memory.
    pub fn note(&mut self, since: &mut Instant) {
        self.wall_seconds += since.elapsed().as_secs_f64();
        *since = Instant::now();
        self.peak_rss_bytes = self.peak_rss_bytes.max(peak_rss_bytes());
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
