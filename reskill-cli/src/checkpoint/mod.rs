//! Checkpoints: everything a run needs to go on as if it had not stopped.
//!
//! A checkpoint is a folder of `checkpoints/`. It is written under a temporary name, synced and renamed, so that it is there
//! as a whole or not at all; `manifest.json` in it holds length and SHA-256 of every file and of itself.

mod choice;
mod folder;
mod manifest;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use reskill_grpo::{Optimizer, OptimizerConfig};
use reskill_model::weights::{from_safetensors, to_safetensors};
use reskill_model::{Gradients, Params, Transformer};
use serde::{Deserialize, Serialize};

pub use self::choice::CheckpointChoice;
pub use self::folder::{best_score, choose, set_aside_after};
use self::folder::{prune, recover, temporary};
use self::manifest::Manifest;
pub use self::manifest::Score;
use crate::base_model::BaseModel;
use crate::config::CheckpointConfig;
use crate::run_dir::{sync_dir, write_atomically};
use crate::trainer::TrainState;

const POLICY: &str = "policy.safetensors";
const REFERENCE: &str = "reference.safetensors";
const MOMENT1: &str = "moment1.safetensors";
const MOMENT2: &str = "moment2.safetensors";
const STATE: &str = "state.json";

/// What is not a tensor.
#[derive(Debug, Serialize, Deserialize)]
struct Scalars {
    optimizer_steps: u64,
    /// Models on disk that the run began with; the weights that an adapter stands beside, or that nothing updates, are
    /// there alone.
    bases: Vec<BaseModel>,
    state: TrainState,
}

/// A checkpoint in memory.
pub struct Checkpoint {
    /// What is trained and by what; absent where the weights are frozen.
    pub learned: Option<Learned>,
    /// Models on disk that the run began with.
    pub bases: Vec<BaseModel>,
    /// The rest.
    pub state: TrainState,
}

/// The half of a checkpoint that updates change.
pub struct Learned {
    /// All weights, or an adapter.
    pub trained: Gradients,
    /// Weights of the frozen reference, if it is a copy.
    pub reference: Option<Params>,
    /// The optimizer.
    pub optimizer: Optimizer,
}

/// What a checkpoint is made of.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// The policy; of one with an adapter, the adapter alone is written.
    pub policy: &'a Transformer,
    /// The optimizer; without one the weights are frozen, and are not written.
    pub optimizer: Option<&'a Optimizer>,
    /// The frozen reference, if it is a copy.
    pub reference: Option<&'a Transformer>,
    /// Models on disk that the run began with.
    pub bases: &'a [BaseModel],
    /// The rest.
    pub state: &'a TrainState,
}

impl Parts<'_> {
    /// The files, the larger ones first.
    fn names(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        if self.optimizer.is_some() {
            names.extend([POLICY, MOMENT1, MOMENT2]);
        }
        names.extend(self.reference.map(|_| REFERENCE));
        names.push(STATE);
        names
    }

    /// The content of one of the files; they are made one after the other.
    fn file(&self, name: &str) -> Result<Vec<u8>> {
        let config = self.policy.config();
        let optimizer = || self.optimizer.context("a frozen policy has no optimizer");
        Ok(match name {
            // Weights in bf16 are the rounding of masters in f32, which is what training goes on from.
            POLICY => match (optimizer()?.masters(), self.policy.adapter()) {
                (Some(masters), _) => masters.to_safetensors(config)?,
                (None, Some(lora)) => lora.to_safetensors()?,
                (None, None) => to_safetensors(config, self.policy.params())?,
            },
            MOMENT1 => optimizer()?.moments()?.0.to_safetensors(config)?,
            MOMENT2 => optimizer()?.moments()?.1.to_safetensors(config)?,
            REFERENCE => match self.reference {
                Some(reference) => to_safetensors(config, reference.params())?,
                None => Vec::new(),
            },
            _ => {
                let scalars = Scalars {
                    optimizer_steps: self.optimizer.map_or(0, Optimizer::steps),
                    bases: self.bases.to_vec(),
                    state: self.state.clone(),
                };
                serde_json::to_vec(&scalars).context("the training state cannot be written as JSON")?
            }
        })
    }
}

/// Writes a checkpoint as folder `name` of `dir`, complete or not at all, and removes what `keep` does not keep.
///
/// - `score`: what an evaluation of exactly this policy and bank reached
///
/// # Errors
/// If it cannot be written; the checkpoints before it are untouched, and nothing of it is left.
pub fn save(
    dir: &Path,
    name: &str,
    keep: &CheckpointConfig,
    score: Option<Score>,
    parts: Parts<'_>,
) -> Result<PathBuf> {
    let temporary = temporary(dir, name);
    remove_if_there(&temporary)?;
    let written = write_files(&temporary, score, parts);
    if let Err(error) = written {
        // What was written so far takes room that others need; that it cannot be removed is the lesser trouble.
        let _ = std::fs::remove_dir_all(&temporary);
        return Err(error.context(format!(
            "{}: no checkpoint could be made; those before it stay",
            dir.join(name).display()
        )));
    }
    let path = folder::put_in_place(dir, name)?;
    prune(dir, keep)?;
    Ok(path)
}

fn write_files(folder: &Path, score: Option<Score>, parts: Parts<'_>) -> Result<()> {
    let mut manifest = Manifest::new(score);
    for name in parts.names() {
        let bytes = parts.file(name)?;
        write_atomically(&folder.join(name), &bytes)?;
        manifest.add(name, &bytes);
    }
    manifest.write(folder)?;
    sync_dir(folder)
}

fn remove_if_there(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    std::fs::remove_dir_all(folder).with_context(|| format!("{}: cannot be removed", folder.display()))
}

/// Reads the checkpoint in `path`, of a run whose policy began as `policy`.
///
/// # Errors
/// If a file of it is missing or damaged: one line that names it and what to do.
pub fn load(path: &Path, policy: &Transformer, optimizer: &OptimizerConfig) -> Result<Checkpoint> {
    let manifest = Manifest::read(path)?;
    let scalars: Scalars = serde_json::from_slice(&manifest.file(path, STATE)?)
        .with_context(|| format!("{}: cannot be understood", path.join(STATE).display()))?;
    let trained = |name: &str| -> Result<Gradients> {
        Ok(Gradients::from_safetensors(policy, &manifest.file(path, name)?, &path.join(name))?)
    };
    let reference = match manifest.has(REFERENCE) {
        true => {
            let bytes = manifest.file(path, REFERENCE)?;
            Some(from_safetensors(policy.config(), &bytes, &path.join(REFERENCE))?)
        }
        false => None,
    };
    let learned = match manifest.has(POLICY) {
        true => {
            let moments = (trained(MOMENT1)?, trained(MOMENT2)?);
            let optimizer = Optimizer::restore(optimizer, moments, scalars.optimizer_steps)?;
            Some(Learned { trained: trained(POLICY)?, reference, optimizer })
        }
        false => None,
    };
    Ok(Checkpoint { learned, bases: scalars.bases, state: scalars.state })
}

/// Whether a run has any checkpoint, damaged ones included.
///
/// # Errors
/// If the folder cannot be read.
pub fn any(dir: &Path) -> Result<bool> {
    if !dir.exists() {
        return Ok(false);
    }
    recover(dir)?;
    Ok(!folder::list(dir)?.is_empty())
}

/// The newest checkpoint.
///
/// # Errors
/// If there is none.
fn newest(dir: &Path) -> Result<PathBuf> {
    match folder::list(dir)?.pop() {
        Some(path) => Ok(path),
        None => bail!("{}: there is no checkpoint to go on from", dir.display()),
    }
}
