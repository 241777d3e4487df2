//! Parquet files, row by row.
//!
//! The crate is used without arrow: a question file is a few columns of text, read once, and the row interface gives them
//! with their nested lists and structures.

use std::fs::File;
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;

use crate::error::EnvError;

/// Calls `take(number, row)` for every row, numbered from 1, until it says `false`.
pub(super) fn for_each_row(path: &Path, take: &mut dyn FnMut(usize, Value) -> bool) -> Result<(), EnvError> {
    let file = File::open(path).map_err(|source| EnvError::Read { path: path.to_path_buf(), source })?;
    let broken = |error: ParquetError, number: usize| EnvError::Record {
        path: path.to_path_buf(),
        number,
        field: String::new(),
        reason: format!("cannot be read as Parquet: {error}"),
    };
    let reader = SerializedFileReader::new(file).map_err(|error| broken(error, 0))?;
    let rows = reader.get_row_iter(None).map_err(|error| broken(error, 0))?;
    for (row, number) in rows.zip(1..) {
        let row = row.map_err(|error| broken(error, number))?;
        if !take(number, row.to_json_value()) {
            break;
        }
    }
    Ok(())
}
