//! Checkpoints: everything a run needs to go on as if it had not stopped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use reskill_grpo::{Optimizer, OptimizerConfig};
use reskill_model::weights::{from_safetensors, to_safetensors};
use reskill_model::{ModelConfig, Params};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::run_dir::write_atomically;
use crate::trainer::TrainState;

/// Version of the format; a checkpoint of another version is refused.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";

/// What lies beside the files: their checksums.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    sha256: BTreeMap<String, String>,
}

/// The optimizer's part that is not a tensor.
#[derive(Debug, Serialize, Deserialize)]
struct Scalars {
    optimizer_steps: u64,
    state: TrainState,
}

/// A checkpoint in memory.
pub struct Checkpoint {
    /// Weights of the policy.
    pub policy: Params,
    /// Weights of the frozen reference.
    pub reference: Params,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// The rest.
    pub state: TrainState,
}

/// Writes a checkpoint as folder `name` of `dir`, complete or not at all, and removes the oldest beyond `keep`.
///
/// # Errors
/// If it cannot be written; the checkpoints before it are untouched.
#[expect(clippy::too_many_arguments, reason = "where, and the parts of a checkpoint")]
pub fn save(
    dir: &Path,
    name: &str,
    keep: usize,
    model: &ModelConfig,
    policy: &Params,
    reference: &Params,
    optimizer: &Optimizer,
    state: &TrainState,
) -> Result<PathBuf> {
    let scalars = serde_json::to_vec(&Scalars { optimizer_steps: optimizer.steps(), state: state.clone() })
        .context("the training state cannot be written as JSON")?;
    let (m, v) = optimizer.moments();
    let files = [
        ("policy.safetensors", to_safetensors(model, policy)?),
        ("reference.safetensors", to_safetensors(model, reference)?),
        ("moment1.safetensors", to_safetensors(model, &m)?),
        ("moment2.safetensors", to_safetensors(model, &v)?),
        ("state.json", scalars),
    ];
    let temporary = dir.join(format!(".{name}.tmp"));
    if temporary.exists() {
        std::fs::remove_dir_all(&temporary)
            .with_context(|| format!("{}: cannot be removed", temporary.display()))?;
    }
    let mut manifest = Manifest { format: FORMAT, sha256: BTreeMap::new() };
    for (file, bytes) in &files {
        write_atomically(&temporary.join(file), bytes)?;
        manifest.sha256.insert((*file).to_string(), hex(&Sha256::digest(bytes)));
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

/// Reads the latest checkpoint of `dir`.
///
/// # Errors
/// If there is none, or a file of it is missing or damaged.
pub fn load_latest(dir: &Path, model: &ModelConfig, optimizer: &OptimizerConfig) -> Result<Checkpoint> {
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
    let params =
        |name: &str| -> Result<Params> { Ok(from_safetensors(model, &file(name)?, &path.join(name))?) };
    let scalars: Scalars = serde_json::from_slice(&file("state.json")?)
        .with_context(|| format!("{}: cannot be understood", path.join("state.json").display()))?;
    let moments = (params("moment1.safetensors")?, params("moment2.safetensors")?);
    Ok(Checkpoint {
        policy: params("policy.safetensors")?,
        reference: params("reference.safetensors")?,
        optimizer: Optimizer::restore(optimizer, moments, scalars.optimizer_steps)?,
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
