//! Safetensors: one file or several with an index, read in place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo};
use serde::Deserialize;

use super::mapped::Mapped;
use super::source::{Described, TensorSource};
use crate::error::ModelError;

/// Bytes of one file with its parsed header.
pub(crate) struct Shard<B> {
    bytes: B,
    /// Where the data begins.
    data: usize,
    metadata: Metadata,
}

impl<B: AsRef<[u8]>> Shard<B> {
    /// Parses the header; offsets are checked against the bytes.
    pub(crate) fn new(bytes: B, path: &Path) -> Result<Shard<B>, ModelError> {
        let (header, metadata) =
            SafeTensors::read_metadata(bytes.as_ref()).map_err(|source| ModelError::Weights {
                path: path.to_path_buf(),
                reason: format!("is no safetensors file: {source}"),
            })?;
        Ok(Shard { bytes, data: header + 8, metadata })
    }

    /// A tensor, by its name with or without the prefix `model.` that bare decoders are saved without.
    fn find(&self, name: &str) -> Option<&TensorInfo> {
        let bare = || self.metadata.info(name.strip_prefix("model.")?);
        self.metadata.info(name).or_else(bare)
    }

    fn bytes_of(&self, info: &TensorInfo) -> &[u8] {
        let (start, end) = info.data_offsets;
        self.bytes.as_ref().get(self.data + start..self.data + end).unwrap_or_default()
    }
}

/// The shards of one checkpoint.
pub(crate) struct Shards<B>(Vec<Shard<B>>);

impl<B: AsRef<[u8]>> Shards<B> {
    pub(crate) fn one(shard: Shard<B>) -> Shards<B> {
        Shards(vec![shard])
    }

    fn find(&self, name: &str) -> Option<(&Shard<B>, &TensorInfo)> {
        self.0.iter().find_map(|shard| Some((shard, shard.find(name)?)))
    }
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Shards<Mapped> {
    /// Maps the weights of a folder: `model.safetensors`, or the files that `model.safetensors.index.json` names.
    pub(crate) fn open(dir: &Path) -> Result<Shards<Mapped>, ModelError> {
        let single = dir.join("model.safetensors");
        if single.is_file() {
            return Ok(Shards(vec![Shard::new(Mapped::open(&single)?, &single)?]));
        }
        let index = dir.join("model.safetensors.index.json");
        if !index.is_file() {
            return Err(ModelError::Weights {
                path: dir.to_path_buf(),
                reason:
                    "holds neither `model.safetensors` nor `model.safetensors.index.json`; other formats of \
                         weights must be converted to safetensors first"
                        .to_string(),
            });
        }
        let odd = |reason: String| ModelError::Weights { path: index.clone(), reason };
        let text = std::fs::read_to_string(&index).map_err(|source| ModelError::File {
            path: index.clone(),
            action: "read",
            source,
        })?;
        let map = serde_json::from_str::<Index>(&text).map_err(|source| odd(source.to_string()))?.weight_map;
        let mut names: Vec<&String> = map.values().collect();
        names.sort();
        names.dedup();
        // Names come from a file: they must not lead out of the folder.
        let leads_out = |name: &&&String| PathBuf::from(name).file_name() != Some(std::ffi::OsStr::new(name));
        if let Some(name) = names.iter().find(leads_out) {
            return Err(odd(format!("{name:?} is not the name of a file in the same folder")));
        }
        let absent: Vec<&str> =
            names.iter().filter(|name| !dir.join(name).is_file()).map(|name| name.as_str()).collect();
        if !absent.is_empty() {
            let absent = absent.join(", ");
            return Err(odd(format!("names {absent}, not in the folder: download what is missing")));
        }
        let mut shards = Vec::new();
        for &name in &names {
            let path = dir.join(name);
            shards.push(Shard::new(Mapped::open(&path)?, &path)?);
        }
        let misplaced: Vec<String> = map
            .iter()
            .filter(|(tensor, file)| {
                let shard = names.binary_search(file).ok().map(|at| &shards[at]);
                shard.is_none_or(|shard| shard.metadata.info(tensor).is_none())
            })
            .map(|(tensor, file)| format!("`{tensor}` is not in {file}"))
            .collect();
        if misplaced.is_empty() { Ok(Shards(shards)) } else { Err(odd(misplaced.join("; "))) }
    }
}

impl<B: AsRef<[u8]>> TensorSource for Shards<B> {
    fn describe(&self, name: &str) -> Option<Described> {
        let (_, info) = self.find(name)?;
        let readable = matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
        Some(Described { dtype: format!("{:?}", info.dtype), readable, shape: info.shape.clone() })
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().flat_map(|shard| shard.metadata.offset_keys()).collect()
    }

    fn read(&self, name: &str, to: &mut [f32]) {
        let Some((shard, info)) = self.find(name) else { return };
        decode(info.dtype, shard.bytes_of(info), to);
    }
}

/// Elements of a readable type as f32.
pub(crate) fn decode(dtype: Dtype, bytes: &[u8], to: &mut [f32]) {
    const CHUNK: usize = 1 << 16;
    let convert = |size: usize, one: fn(&[u8]) -> f32, to: &mut [f32]| {
        to.par_chunks_mut(CHUNK).zip(bytes.par_chunks(CHUNK * size)).for_each(|(to, bytes)| {
            to.iter_mut().zip(bytes.chunks_exact(size)).for_each(|(to, bytes)| *to = one(bytes));
        });
    };
    match dtype {
        Dtype::F16 => convert(2, |b| f16::from_le_bytes([b[0], b[1]]).to_f32(), to),
        Dtype::BF16 => convert(2, |b| bf16::from_le_bytes([b[0], b[1]]).to_f32(), to),
        _ => convert(4, |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]), to),
    }
}
