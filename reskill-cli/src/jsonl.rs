//! Files of a run with one JSON object a line, cut to what a checkpoint has seen of them when the run goes on.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

/// The file, open to append.
#[derive(Debug)]
pub struct JsonlWriter {
    path: PathBuf,
    file: File,
    len: u64,
}

impl JsonlWriter {
    /// Opens (or makes) the file and cuts it to `len` bytes: what a checkpoint has seen of it.
    ///
    /// # Errors
    /// If the file cannot be opened or is shorter than `len`.
    pub fn open(path: &Path, len: u64) -> Result<JsonlWriter> {
        let shown = path.display();
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .with_context(|| format!("{shown}: cannot be opened"))?;
        let on_disk = file.metadata().with_context(|| format!("{shown}: cannot be read"))?.len();
        anyhow::ensure!(
            on_disk >= len,
            "{shown}: has {on_disk} bytes, the checkpoint expects at least {len}"
        );
        file.set_len(len).with_context(|| format!("{shown}: cannot be cut"))?;
        file.seek(SeekFrom::End(0)).with_context(|| format!("{shown}: cannot be read"))?;
        Ok(JsonlWriter { path: path.to_path_buf(), file, len })
    }

    /// Appends one record.
    ///
    /// # Errors
    /// If it cannot be written, e.g. because the disk is full.
    pub fn write(&mut self, record: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(record).context("a record cannot be written as JSON")?;
        line.push(b'\n');
        self.file.write_all(&line).with_context(|| format!("{}: cannot be written", self.path.display()))?;
        self.len += line.len() as u64;
        Ok(())
    }

    /// Waits until all records are on the disk.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().with_context(|| format!("{}: cannot be written", self.path.display()))
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
