//! A trace: the lengths of one GRPO step, and tokens of these lengths.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The trace that is compiled in; `benchmarks/traces/make_alfworld_like.py` wrote it.
const ALFWORLD_LIKE: &str = include_str!("../../../../benchmarks/traces/alfworld-like.json");

/// Groups of rollouts, in lengths.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trace {
    pub(super) groups: Vec<Group>,
}

/// The rollouts of one task.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    /// Tokens that all episodes open with.
    opening: usize,
    /// Per episode, per turn: tokens that join the trunk, tokens of the branch, tokens of the reply.
    episodes: Vec<Vec<[usize; 3]>>,
}

/// One episode in tokens.
pub(super) struct Episode {
    pub(super) group: usize,
    pub(super) opening: Vec<u32>,
    pub(super) turns: Vec<Turn>,
}

/// One turn in tokens; the reply in its length, for it is drawn.
pub(super) struct Turn {
    pub(super) entry: Vec<u32>,
    pub(super) branch: Vec<u32>,
    pub(super) reply_len: usize,
}

impl Trace {
    /// Reads a file, or takes the one compiled in.
    pub(super) fn load(file: Option<&Path>) -> Result<Trace> {
        let name = file.map_or("alfworld-like.json (embedded)".into(), |path| path.display().to_string());
        let text = match file {
            Some(path) => std::fs::read_to_string(path)
                .with_context(|| format!("{name}: cannot be read; give an existing file to --trace"))?,
            None => ALFWORLD_LIKE.to_string(),
        };
        let trace: Trace = serde_json::from_str(&text).with_context(|| format!("{name}: is not a trace"))?;
        let odd = |turn: &[usize; 3]| turn[1] == 0 || turn[2] == 0;
        let episodes = || trace.groups.iter().flat_map(|group| &group.episodes);
        if episodes().next().is_none() || episodes().any(Vec::is_empty) || episodes().flatten().any(odd) {
            bail!("{name}: expected episodes with turns, and branches and replies of at least one token");
        }
        Ok(trace)
    }

    /// The first `n_groups` groups of `n_episodes` episodes of `n_turns` turns at most.
    pub(super) fn cut(&mut self, n_groups: usize, n_episodes: usize, n_turns: usize) {
        self.groups.truncate(n_groups);
        for group in &mut self.groups {
            group.episodes.truncate(n_episodes);
            group.episodes.iter_mut().for_each(|turns| turns.truncate(n_turns));
        }
    }

    /// Tokens of these lengths times `scale`, below `vocab_size`, the same every time.
    pub(super) fn episodes(&self, scale: f64, vocab_size: u32) -> Vec<Episode> {
        let mut state = 0_u32;
        let mut tokens = |len: usize| -> Vec<u32> {
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) % vocab_size
            };
            (0..len).map(|_| next()).collect()
        };
        let scaled = |len: usize| ((len as f64 * scale).round() as usize).max(1);
        let mut all = Vec::new();
        for (index, group) in self.groups.iter().enumerate() {
            let opening = tokens(scaled(group.opening));
            for turns in &group.episodes {
                let turns = turns
                    .iter()
                    .enumerate()
                    // The first turn has no history yet.
                    .map(|(turn, &[entry, branch, reply])| Turn {
                        entry: if turn == 0 { Vec::new() } else { tokens(scaled(entry)) },
                        branch: tokens(scaled(branch)),
                        reply_len: scaled(reply),
                    })
                    .collect();
                all.push(Episode { group: index, opening: opening.clone(), turns });
            }
        }
        all
    }
}
