//! The files of a model that a run begins with, with sizes and checksums: what a resumed run must find as it was.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Files of a folder that the policy depends on, beside its weights.
const SMALL_FILES: [&str; 6] = [
    "config.json",
    "adapter_config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
];

/// A model or an adapter on disk. A checkpoint refers to it instead of holding weights that nothing updates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseModel {
    /// The folder or the file.
    pub path: PathBuf,
    files: BTreeMap<String, Stamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    sha256: String,
}

impl BaseModel {
    /// Reads all its files, at `place`, through once; `path` is what the configuration calls it.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn of(path: &Path, place: &Path) -> Result<BaseModel> {
        let mut files = BTreeMap::new();
        if place.is_dir() {
            let entries =
                std::fs::read_dir(place).with_context(|| format!("{}: cannot be read", place.display()))?;
            for entry in entries {
                let entry = entry.with_context(|| format!("{}: cannot be read", place.display()))?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.ends_with(".safetensors") || SMALL_FILES.contains(&name.as_str()) {
                    files.insert(name, stamp(&entry.path())?);
                }
            }
        } else {
            let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.insert(name, stamp(place)?);
        }
        Ok(BaseModel { path: path.to_path_buf(), files })
    }

    /// Refuses to go on with another model than the one a run began with.
    ///
    /// # Errors
    /// One line that names the first file that differs.
    pub fn check_same(&self, began: &BaseModel) -> Result<()> {
        let names = began.files.keys().chain(self.files.keys());
        for name in names {
            let is = match (began.files.get(name), self.files.get(name)) {
                (Some(before), Some(now)) if before == now => continue,
                (Some(_), None) => "is gone",
                (None, _) => "is new",
                (Some(_), Some(_)) => "is not the file it was",
            };
            bail!(
                "{}: {name} {is} since the run began; put the model back, or begin a new run",
                self.path.display()
            );
        }
        Ok(())
    }
}

fn stamp(path: &Path) -> Result<Stamp> {
    let read = || -> std::io::Result<Stamp> {
        let mut file = std::fs::File::open(path)?;
        let (mut hasher, mut bytes) = (Sha256::new(), 0);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            bytes += n as u64;
        }
        let sha256 = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Stamp { bytes, sha256 })
    };
    read().with_context(|| format!("{}: cannot be read", path.display()))
}
