//! Finding question files, and reading their records one by one.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::table;
use crate::error::EnvError;

const EXPECTED: &str = "question files (.jsonl, .json, .parquet; also .jsonl.gz, .jsonl.zst), in it or in its folder `questions`";

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packed {
    /// As it is.
    Plain,
    /// gzip.
    Gz,
    /// Zstandard.
    Zst,
}

impl Packed {
    /// By the ending of the name; the name without it.
    pub(crate) fn of(name: &str) -> (Packed, &str) {
        match (name.strip_suffix(".gz"), name.strip_suffix(".zst")) {
            (Some(bare), _) => (Packed::Gz, bare),
            (_, Some(bare)) => (Packed::Zst, bare),
            _ => (Packed::Plain, name),
        }
    }
}

/// The file's lines, unpacked.
///
/// # Errors
/// [`EnvError::Read`].
pub(crate) fn line_reader(path: &Path) -> Result<Box<dyn BufRead>, EnvError> {
    const BUFFER: usize = 1 << 16;
    let failed = |source| EnvError::Read { path: path.to_path_buf(), source };
    let file = BufReader::with_capacity(BUFFER, File::open(path).map_err(failed)?);
    let unpacked: Box<dyn Read> = match Packed::of(&file_name(path)).0 {
        Packed::Plain => return Ok(Box::new(file)),
        Packed::Gz => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        Packed::Zst => Box::new(zstd::stream::read::Decoder::with_buffer(file).map_err(failed)?),
    };
    Ok(Box::new(BufReader::with_capacity(BUFFER, unpacked)))
}

/// The question files of a path.
pub(super) fn question_files(path: &Path) -> Result<Vec<PathBuf>, EnvError> {
    if path.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    let inner = path.join("questions");
    let dir = if inner.is_dir() { inner } else { path.to_path_buf() };
    let failed = |source| EnvError::Read { path: dir.clone(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let name = file_name(&file);
        let (_, bare) = Packed::of(&name);
        let is_data = [".jsonl", ".json", ".parquet"].iter().any(|ending| bare.ends_with(ending));
        if is_data && file.is_file() && !name.starts_with("corpus") && !name.starts_with("coverage") {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(EnvError::NoGames { path: path.to_path_buf(), expected: EXPECTED });
    }
    files.sort();
    Ok(files)
}

/// Calls `take(number, record)` for every record, numbered from 1, until it says `false`.
pub(super) fn for_each_record(
    path: &Path,
    take: &mut dyn FnMut(usize, Value) -> bool,
) -> Result<(), EnvError> {
    let name = file_name(path);
    let (_, bare) = Packed::of(&name);
    if bare.ends_with(".parquet") {
        return table::for_each_row(path, take);
    }
    let failed = |source| EnvError::Read { path: path.to_path_buf(), source };
    let broken = |number, error: serde_json::Error| EnvError::Record {
        path: path.to_path_buf(),
        number,
        field: String::new(),
        reason: format!("is no JSON: {error}"),
    };
    let mut reader = line_reader(path)?;
    if bare.ends_with(".json") {
        let mut text = String::new();
        reader.read_to_string(&mut text).map_err(failed)?;
        let records: Vec<Value> = serde_json::from_str(&text).map_err(|error| broken(1, error))?;
        for (value, number) in records.into_iter().zip(1..) {
            if !take(number, value) {
                break;
            }
        }
        return Ok(());
    }
    for (line, number) in reader.lines().zip(1..) {
        let line = line.map_err(failed)?;
        if line.trim().is_empty() {
            continue;
        }
        let value = serde_json::from_str(&line).map_err(|error| broken(number, error))?;
        if !take(number, value) {
            break;
        }
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
