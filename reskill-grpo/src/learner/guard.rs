//! The guard against updates that are not finite: the batch is kept for whoever looks for the cause.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::GrpoError;
use crate::loss::LossConfig;
use crate::trajectory::TokenTrajectory;

/// Batches written in the life of a learner at most: a run that breaks in every step must not fill the disk.
const MOST: usize = 8;

/// Where skipped batches go, and how many were written.
#[derive(Debug, Clone, Default)]
pub(super) struct Guard {
    dir: Option<PathBuf>,
    written: usize,
}

/// A batch whose update was skipped, as it is written.
#[derive(Debug, Serialize)]
pub(super) struct SkippedBatch<'a> {
    /// Optimizer steps before it.
    pub(super) optimizer_steps: u64,
    /// The loss, if it is a number (JSON has no NaN).
    pub(super) loss: f64,
    /// The norm of the gradient, likewise; null also where the loss alone was broken.
    pub(super) grad_norm: Option<f64>,
    /// The loss's settings; null for imitation.
    pub(super) config: Option<&'a LossConfig>,
    /// Advantages by trajectory and turn; empty for imitation.
    pub(super) advantages: Vec<&'a [f32]>,
    /// The trajectories.
    pub(super) trajectories: &'a [&'a TokenTrajectory],
}

impl Guard {
    pub(super) fn set_dir(&mut self, dir: &Path) {
        self.dir = Some(dir.to_path_buf());
    }

    /// Writes a batch under a name that no earlier one has, complete or not at all.
    pub(super) fn keep(&mut self, batch: &SkippedBatch<'_>) -> Result<(), GrpoError> {
        let Some(dir) = self.dir.as_ref().filter(|_| self.written < MOST) else {
            return Ok(());
        };
        let name = |number: usize| dir.join(format!("skipped-{:06}-{number}.json", batch.optimizer_steps));
        let path = (0..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(0));
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(dir)?;
            let temporary = path.with_extension("tmp");
            fs::write(&temporary, serde_json::to_vec(batch)?)?;
            fs::rename(&temporary, &path)
        };
        write().map_err(|source| GrpoError::Dump { path: path.clone(), source })?;
        self.written += 1;
        Ok(())
    }
}
