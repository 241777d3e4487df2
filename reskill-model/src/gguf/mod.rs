//! GGUF, the file format of llama.cpp: weights, sizes, tokenizer and chat template in one file. Versions 2 and 3.
//!
//! Layout: magic, version, counts; metadata (name, type, value); descriptions of tensors (name, sizes, type, offset);
//! data, aligned. All numbers are little-endian. Everything a file says is checked against its length before it is used.

mod blocks;
mod network;
mod reader;
mod tokenizer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use self::blocks::BlockType;
use self::reader::Reader;
pub use self::reader::Value;
use crate::error::ModelError;
use crate::weights::Mapped;

/// A tensor of the file.
#[derive(Debug, Clone)]
struct TensorInfo {
    /// Slowest axis first, as everywhere in this crate; the file has them the other way round.
    shape: Vec<usize>,
    /// Number of the type, as ggml counts them.
    ggml_type: u32,
    /// Where its data lies in the file.
    data: std::ops::Range<usize>,
}

/// A parsed file over its bytes.
pub struct Gguf<B = Vec<u8>> {
    bytes: B,
    path: PathBuf,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, TensorInfo>,
}

impl<B> std::fmt::Debug for Gguf<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gguf").field("path", &self.path).field("tensors", &self.tensors.len()).finish()
    }
}

impl Gguf<Mapped> {
    /// Maps a file into memory and parses its header.
    ///
    /// # Errors
    /// [`ModelError::File`]; [`ModelError::Weights`] if it is damaged or of another version.
    pub(crate) fn open(path: &Path) -> Result<Gguf<Mapped>, ModelError> {
        Gguf::parse(Mapped::open(path)?, path)
    }
}

impl<B: AsRef<[u8]>> Gguf<B> {
    /// Parses a file's header. `path` is named in errors.
    ///
    /// # Errors
    /// [`ModelError::Weights`] if it is damaged or of another version.
    pub fn parse(bytes: B, path: &Path) -> Result<Gguf<B>, ModelError> {
        let (metadata, tensors) = parse(bytes.as_ref())
            .map_err(|reason| ModelError::Weights { path: path.to_path_buf(), reason })?;
        Ok(Gguf { bytes, path: path.to_path_buf(), metadata, tensors })
    }

    /// A value of the metadata.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    fn odd(&self, reason: impl Into<String>) -> ModelError {
        ModelError::Weights { path: self.path.clone(), reason: reason.into() }
    }
}

type Header = (BTreeMap<String, Value>, BTreeMap<String, TensorInfo>);

fn parse(bytes: &[u8]) -> Result<Header, String> {
    let mut reader = Reader::new(bytes);
    if reader.take(4)? != b"GGUF" {
        return Err("is no GGUF file".to_string());
    }
    let version = reader.u32()?;
    if !(2..=3).contains(&version) {
        return Err(format!("has GGUF version {version}, expected 2 or 3 (little-endian)"));
    }
    let n_tensors = reader.u64()?;
    let n_values = reader.u64()?;
    let mut metadata = BTreeMap::new();
    for _ in 0..n_values {
        let key = reader.string()?;
        let kind = reader.u32()?;
        let value = reader.value(kind, 0).map_err(|reason| format!("metadata `{key}`: {reason}"))?;
        metadata.insert(key, value);
    }
    let mut described = Vec::new();
    for _ in 0..n_tensors {
        let name = reader.string()?;
        described.push(
            describe(&mut reader)
                .map_err(|reason| format!("tensor `{name}`: {reason}"))
                .map(|(shape, ggml_type, offset)| (name, shape, ggml_type, offset))?,
        );
    }
    let alignment = match metadata.get("general.alignment") {
        None => 32,
        Some(value) => value
            .as_usize()
            .filter(|n| n.is_power_of_two())
            .ok_or("`general.alignment` must be a power of two")?,
    };
    let data = reader.position().checked_next_multiple_of(alignment).ok_or("is cut short")?;
    let mut tensors = BTreeMap::new();
    for (name, shape, ggml_type, offset) in described {
        let range = place(&shape, ggml_type, offset, data, bytes.len())
            .map_err(|reason| format!("tensor `{name}`: {reason}"))?;
        if tensors.insert(name.clone(), TensorInfo { shape, ggml_type, data: range }).is_some() {
            return Err(format!("tensor `{name}` is there twice"));
        }
    }
    Ok((metadata, tensors))
}

/// Shape, type and offset of a tensor.
fn describe(reader: &mut Reader<'_>) -> Result<(Vec<usize>, u32, u64), String> {
    let n_axes = reader.u32()?;
    if n_axes > 4 {
        return Err(format!("has {n_axes} axes, expected at most 4"));
    }
    let mut shape = Vec::new();
    for _ in 0..n_axes {
        shape.push(usize::try_from(reader.u64()?).map_err(|_| "is too large".to_string())?);
    }
    shape.reverse();
    Ok((shape, reader.u32()?, reader.u64()?))
}

/// Where a tensor lies in the file. Of a type that is not known only the start can be checked.
fn place(
    shape: &[usize],
    ggml_type: u32,
    offset: u64,
    data: usize,
    file_len: usize,
) -> Result<std::ops::Range<usize>, String> {
    let elements = shape.iter().try_fold(1_usize, |n, &size| n.checked_mul(size)).ok_or("is too large")?;
    let start = usize::try_from(offset).ok().and_then(|offset| data.checked_add(offset));
    let start = start.filter(|&start| start <= file_len).ok_or("lies beyond the end of the file")?;
    let Some(kind) = BlockType::of(ggml_type) else {
        return Ok(start..start);
    };
    let row = shape.last().copied().unwrap_or(1);
    if !row.is_multiple_of(kind.elements()) {
        return Err(format!("has rows of {row} elements, expected a multiple of {}", kind.elements()));
    }
    let end = (elements / kind.elements()).checked_mul(kind.bytes()).and_then(|n| start.checked_add(n));
    let end = end.filter(|&end| end <= file_len).ok_or("lies beyond the end of the file")?;
    Ok(start..end)
}
