//! Checkpoints: everything a run needs to go on as if it had not stopped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use reskill_grpo::{Optimizer, OptimizerConfig};
use reskill_model::weights::{from_safetensors, to_safetensors};
use reskill_model::{Gradients, Params, Transformer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::base_model::BaseModel;
use crate::run_dir::write_atomically;
use crate::trainer::TrainState;

/// Version of the format; a checkpoint of another version is refused.
const FORMAT: u32 = 2;
const MANIFEST: &str = "manifest.json";

/// What lies beside the files: their checksums.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    sha256: BTreeMap<String, String>,
}

/// What is not a tensor.
#[derive(Debug, Serialize, Deserialize)]
struct Scalars {
    optimizer_steps: u64,
    /// The pretrained model that the run began with; the weights that an adapter stands beside are there alone.
    base: Option<BaseModel>,
    state: TrainState,
}

/// A checkpoint in memory.
pub struct Checkpoint {
    /// What is trained: all weights, or an adapter.
    pub trained: Gradients,
    /// Weights of the frozen reference, if it is a copy.
    pub reference: Option<Params>,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// The pretrained model that the run began with.
    pub base: Option<BaseModel>,
    /// The rest.
    pub state: TrainState,
}

/// What a checkpoint is made of.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// The policy; of one with an adapter, the adapter alone is written.
    pub policy: &'a Transformer,
    /// The frozen reference, if it is a copy.
    pub reference: Option<&'a Transformer>,
    /// The optimizer.
    pub optimizer: &'a Optimizer,
    /// The pretrained model that the run began with.
    pub base: Option<&'a BaseModel>,
    /// The rest.
    pub state: &'a TrainState,
}

impl Parts<'_> {
    /// The content of one of the files; the larger ones are made one after the other.
    fn file(&self, name: &str) -> Result<Vec<u8>> {
        let config = self.policy.config();
        let (m, v) = self.optimizer.moments()?;
        Ok(match name {
            // Weights in bf16 are the rounding of masters in f32, which is what training goes on from.
            POLICY => match (self.optimizer.masters(), self.policy.adapter()) {
                (Some(masters), _) => masters.to_safetensors(config)?,
                (None, Some(lora)) => lora.to_safetensors()?,
                (None, None) => to_safetensors(config, self.policy.params())?,
            },
            MOMENT1 => m.to_safetensors(config)?,
            MOMENT2 => v.to_safetensors(config)?,
            REFERENCE => match self.reference {
                Some(reference) => to_safetensors(config, reference.params())?,
                None => Vec::new(),
            },
            _ => {
                let scalars = Scalars {
                    optimizer_steps: self.optimizer.steps(),
                    base: self.base.cloned(),
                    state: self.state.clone(),
                };
                serde_json::to_vec(&scalars).context("the training state cannot be written as JSON")?
            }
        })
    }
}

const POLICY: &str = "policy.safetensors";
const REFERENCE: &str = "reference.safetensors";
const MOMENT1: &str = "moment1.safetensors";
const MOMENT2: &str = "moment2.safetensors";
const STATE: &str = "state.json";

/// Writes a checkpoint as folder `name` of `dir`, complete or not at all, and removes the oldest beyond `keep`.
///
/// # Errors
/// If it cannot be written; the checkpoints before it are untouched.
pub fn save(dir: &Path, name: &str, keep: usize, parts: Parts<'_>) -> Result<PathBuf> {
    let temporary = dir.join(format!(".{name}.tmp"));
    if temporary.exists() {
        std::fs::remove_dir_all(&temporary)
            .with_context(|| format!("{}: cannot be removed", temporary.display()))?;
    }
    let mut manifest = Manifest { format: FORMAT, sha256: BTreeMap::new() };
    let files = [POLICY, MOMENT1, MOMENT2, STATE];
    for file in files.into_iter().chain(parts.reference.map(|_| REFERENCE)) {
        let bytes = parts.file(file)?;
        write_atomically(&temporary.join(file), &bytes)?;
        manifest.sha256.insert(file.to_string(), hex(&Sha256::digest(&bytes)));
    }
    let manifest = serde_json::to_vec_pretty(&manifest).context("the manifest cannot be written as JSON")?;
    write_atomically(&temporary.join(MANIFEST), &manifest)?;
    let path = dir.join(name);
    // An older checkpoint of the same name steps aside until the new one is in place.
    let aside = dir.join(format!(".{name}.old"));
    if path.exists() {
        std::fs::rename(&path, &aside).with_context(|| format!("{}: cannot be replaced", path.display()))?;
    }
    std::fs::rename(&temporary, &path).with_context(|| format!("{}: cannot be made", path.display()))?;
    if aside.exists() {
        std::fs::remove_dir_all(&aside).with_context(|| format!("{}: cannot be removed", aside.display()))?;
    }
    let all = list(dir)?;
    for old in &all[..all.len().saturating_sub(keep)] {
        std::fs::remove_dir_all(old).with_context(|| format!("{}: cannot be removed", old.display()))?;
    }
    Ok(path)
}

/// Reads the latest checkpoint of `dir`, of a run whose policy began as `policy`.
///
/// # Errors
/// If there is none, or a file of it is missing or damaged.
pub fn load_latest(dir: &Path, policy: &Transformer, optimizer: &OptimizerConfig) -> Result<Checkpoint> {
    let Some(path) = list(dir)?.pop() else {
        bail!("{}: there is no checkpoint to go on from", dir.display());
    };
    let manifest_path = path.join(MANIFEST);
    let manifest: Manifest = serde_json::from_slice(&read(&manifest_path)?)
        .with_context(|| format!("{}: is damaged; {}", manifest_path.display(), remedy(&path)))?;
    if manifest.format != FORMAT {
        bail!("{}: has format {}, this version reads {FORMAT}", manifest_path.display(), manifest.format);
    }
    let file = |name: &str| -> Result<Vec<u8>> {
        let path_of_file = path.join(name);
        let bytes = read(&path_of_file)?;
        if manifest.sha256.get(name) != Some(&hex(&Sha256::digest(&bytes))) {
            bail!("{}: does not match its checksum; {}", path_of_file.display(), remedy(&path));
        }
        Ok(bytes)
    };
    let trained = |name: &str| -> Result<Gradients> {
        Ok(Gradients::from_safetensors(policy, &file(name)?, &path.join(name))?)
    };
    let scalars: Scalars = serde_json::from_slice(&file(STATE)?)
        .with_context(|| format!("{}: cannot be understood", path.join(STATE).display()))?;
    let moments = (trained(MOMENT1)?, trained(MOMENT2)?);
    let reference = match manifest.sha256.contains_key(REFERENCE) {
        true => Some(from_safetensors(policy.config(), &file(REFERENCE)?, &path.join(REFERENCE))?),
        false => None,
    };
    Ok(Checkpoint {
        trained: trained(POLICY)?,
        reference,
        optimizer: Optimizer::restore(optimizer, moments, scalars.optimizer_steps)?,
        base: scalars.base,
        state: scalars.state,
    })
}

/// Complete checkpoints, oldest first. Names sort by progress.
fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("{}: cannot be read", dir.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("{}: cannot be read", dir.display()))?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.join(MANIFEST).is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))
}

fn remedy(checkpoint: &Path) -> String {
    format!("remove {} to go on from the checkpoint before it", checkpoint.display())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
