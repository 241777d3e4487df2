//! Which episodes of a run are kept, turn by turn.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use reskill_skills::{SkillBank, SkillEpisode};

use super::{FINAL, FINAL_BANK_OFF, Trainer, WARM_START};
use crate::episodes::{EpisodeLine, spread};
use crate::evaluate::Played;
use crate::jsonl::JsonlWriter;

/// Opens the file, cut to what a checkpoint has seen of it. One that was shortened or removed since then is no error: no
/// result depends on it.
pub(super) fn open(path: &Path, len: u64) -> Result<JsonlWriter> {
    let on_disk = path.metadata().map_or(0, |metadata| metadata.len());
    JsonlWriter::open(path, len.min(on_disk))
}

impl Trainer {
    /// Keeps the first groups of a training step, if it is one of those that are kept.
    pub(super) fn keep_training(&mut self, step: u64, records: &[SkillEpisode]) -> Result<()> {
        let kept = &self.config.log.episodes;
        if kept.every == 0 || step % kept.every != 1 % kept.every {
            return Ok(());
        }
        let groups: BTreeSet<u64> = records.iter().map(|record| record.group).collect();
        let groups: BTreeSet<u64> = groups.into_iter().take(kept.groups).collect();
        for record in records.iter().filter(|record| groups.contains(&record.group)) {
            let bank = self.state.lifecycle.bank(record.arm);
            let line = EpisodeLine::new("training", self.config.seed, bank, record.clone());
            self.episodes.write(&line)?;
        }
        Ok(())
    }

    /// Keeps games of an evaluation before or after training, spread over the families.
    pub(super) fn keep_evaluation(&mut self, phase: &str, bank: &SkillBank, played: &Played) -> Result<()> {
        if ![WARM_START, FINAL, FINAL_BANK_OFF].contains(&phase) {
            return Ok(());
        }
        // The games of a family follow one another.
        for index in spread(played.episodes.len(), self.config.log.episodes.games) {
            let record = played.episodes[index].clone();
            self.episodes.write(&EpisodeLine::new(phase, self.config.seed, bank, record))?;
        }
        Ok(())
    }
}
