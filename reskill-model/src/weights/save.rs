//! Writing weights as safetensors.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use half::bf16;
use safetensors::tensor::{Dtype, View};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::source::rows_of;
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::layout::{Entry, entries};
use crate::params::Params;

/// Type of saved weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 4 bytes an element: what was trained, to the bit.
    #[default]
    F32,
    /// 2 bytes an element, rounded to the nearest.
    Bf16,
}

impl Precision {
    /// Bytes of an element.
    fn bytes(self) -> usize {
        if self == Precision::F32 { 4 } else { 2 }
    }

    /// The name in `config.json`.
    pub(crate) fn torch_name(self) -> &'static str {
        match self {
            Precision::F32 => "float32",
            Precision::Bf16 => "bfloat16",
        }
    }
}

/// How weights are saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaveOptions {
    /// Type of the elements.
    pub precision: Precision,
    /// Bytes of weights that one file holds at most; a larger tensor stands alone.
    pub max_shard_bytes: usize,
}

impl Default for SaveOptions {
    fn default() -> Self {
        SaveOptions { precision: Precision::F32, max_shard_bytes: 5_000_000_000 }
    }
}

/// Some elements and how they are to be written.
pub(crate) struct Elements<'a> {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Cow<'a, [f32]>,
    pub(crate) precision: Precision,
}

impl View for Elements<'_> {
    fn dtype(&self) -> Dtype {
        match self.precision {
            Precision::F32 => Dtype::F32,
            Precision::Bf16 => Dtype::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self.precision {
            Precision::F32 => self.values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Precision::Bf16 => self.values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
        }
    }

    fn data_len(&self) -> usize {
        self.values.len() * self.precision.bytes()
    }
}

/// `params` as the bytes of a safetensors file (f32, Hugging Face's names).
///
/// # Errors
/// [`ModelError::Weights`] if the format refuses the tensors.
pub fn to_safetensors(config: &ModelConfig, params: &Params) -> Result<Vec<u8>, ModelError> {
    serialize(elements(&entries(config), params, Precision::F32)?, Path::new("model.safetensors"))
}

/// Named tensors as the bytes of a safetensors file; `path` is named in errors.
pub(crate) fn serialize(tensors: Vec<(String, Elements<'_>)>, path: &Path) -> Result<Vec<u8>, ModelError> {
    safetensors::serialize(tensors, Some(metadata())).map_err(|source| refused(path, &source))
}

/// Writes `params` into a folder: `model.safetensors`, or numbered files and their index.
pub(crate) fn to_folder(
    config: &ModelConfig,
    params: &Params,
    dir: &Path,
    options: &SaveOptions,
) -> Result<(), ModelError> {
    let mut shards: Vec<(usize, Vec<Entry>)> = Vec::new();
    for entry in entries(config) {
        let len = entry.shape.iter().product::<usize>() * options.precision.bytes();
        match shards.last_mut() {
            Some((bytes, shard)) if *bytes + len <= options.max_shard_bytes => {
                *bytes += len;
                shard.push(entry);
            }
            _ => shards.push((len, vec![entry])),
        }
    }
    let n = shards.len();
    let total_size: usize = shards.iter().map(|(bytes, _)| bytes).sum();
    let mut weight_map = BTreeMap::new();
    for (index, (_, shard)) in shards.into_iter().enumerate() {
        let file = match n {
            1 => "model.safetensors".to_string(),
            _ => format!("model-{:05}-of-{n:05}.safetensors", index + 1),
        };
        weight_map.extend(shard.iter().map(|entry| (entry.name.clone(), file.clone())));
        write_tensors(&dir.join(&file), elements(&shard, params, options.precision)?)?;
    }
    if n > 1 {
        let index = json!({ "metadata": { "total_size": total_size }, "weight_map": weight_map });
        let text = serde_json::to_vec_pretty(&index).unwrap_or_default();
        write_file(&dir.join("model.safetensors.index.json"), &text)?;
    }
    Ok(())
}

/// Writes a safetensors file, complete or not at all.
pub(crate) fn write_tensors(path: &Path, tensors: Vec<(String, Elements<'_>)>) -> Result<(), ModelError> {
    let temporary = path.with_extension("safetensors.tmp");
    safetensors::serialize_to_file(tensors, Some(metadata()), &temporary)
        .map_err(|source| refused(path, &source))?;
    rename(&temporary, path)
}

/// Writes a file, complete or not at all.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, bytes).map_err(|source| ModelError::File {
        path: path.to_path_buf(),
        action: "written",
        source,
    })?;
    rename(&temporary, path)
}

fn rename(temporary: &Path, path: &Path) -> Result<(), ModelError> {
    let synced = std::fs::File::open(temporary).and_then(|file| file.sync_all());
    synced.and_then(|()| std::fs::rename(temporary, path)).map_err(|source| ModelError::File {
        path: path.to_path_buf(),
        action: "written",
        source,
    })
}

fn elements<'a>(
    entries: &[Entry],
    params: &'a Params,
    precision: Precision,
) -> Result<Vec<(String, Elements<'a>)>, ModelError> {
    let tensors = params.tensors();
    entries
        .iter()
        .map(|entry| {
            let values = rows_of(tensors[entry.index], entry)?;
            Ok((entry.name.clone(), Elements { shape: entry.shape.clone(), values, precision }))
        })
        .collect()
}

fn metadata() -> HashMap<String, String> {
    HashMap::from([("format".to_string(), "pt".to_string())])
}

fn refused(path: &Path, source: &safetensors::SafeTensorError) -> ModelError {
    ModelError::Weights { path: path.to_path_buf(), reason: source.to_string() }
}
