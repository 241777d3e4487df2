//! `manifest.json`: what a checkpoint consists of, with lengths and checksums, its own included.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::run_dir::write_atomically;

/// Version of the format; a checkpoint of another version is refused.
const FORMAT: u32 = 3;
const MANIFEST: &str = "manifest.json";

/// What an evaluation of exactly the policy and the bank of a checkpoint reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Training step of the evaluation.
    pub step: u64,
    /// Share of the seen validation games that were won, in 0..=1.
    pub success: f64,
}

/// What lies in the folder of a checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    pub(super) score: Option<Score>,
    files: BTreeMap<String, Stamp>,
    /// SHA-256 of the manifest with this field empty.
    sha256: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    sha256: String,
}

/// A manifest of any version.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

impl Manifest {
    pub(super) fn new(score: Option<Score>) -> Manifest {
        Manifest { format: FORMAT, score, files: BTreeMap::new(), sha256: String::new() }
    }

    pub(super) fn add(&mut self, name: &str, bytes: &[u8]) {
        self.files.insert(name.to_string(), Stamp { bytes: bytes.len() as u64, sha256: hex(bytes) });
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    pub(super) fn write(mut self, folder: &Path) -> Result<()> {
        self.sha256 = self.own_checksum()?;
        let json = serde_json::to_vec_pretty(&self).context("the manifest cannot be written as JSON")?;
        write_atomically(&folder.join(MANIFEST), &json)
    }

    /// Reads and checks the manifest of a checkpoint.
    ///
    /// # Errors
    /// If it is missing, damaged, or of another version.
    pub(super) fn read(folder: &Path) -> Result<Manifest> {
        let path = folder.join(MANIFEST);
        let bytes = read(&path)?;
        let version: Version = serde_json::from_slice(&bytes)
            .with_context(|| format!("{}: is damaged; {REMEDY}", path.display()))?;
        if version.format != FORMAT {
            bail!(
                "{}: has format {}, this version of the program reads {FORMAT}; go on with the version that wrote it",
                path.display(),
                version.format
            );
        }
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .with_context(|| format!("{}: is damaged; {REMEDY}", path.display()))?;
        if manifest.own_checksum()? != manifest.sha256 {
            bail!("{}: does not match its checksum; {REMEDY}", path.display());
        }
        Ok(manifest)
    }

    /// The content of a file of the checkpoint, as it was written.
    ///
    /// # Errors
    /// If it is missing, cut, or changed.
    pub(super) fn file(&self, folder: &Path, name: &str) -> Result<Vec<u8>> {
        let path = folder.join(name);
        let Some(stamp) = self.files.get(name) else {
            bail!("{}: is not part of the checkpoint; {REMEDY}", path.display());
        };
        let bytes = read(&path)?;
        if bytes.len() as u64 != stamp.bytes {
            bail!("{}: has {} bytes instead of {}; {REMEDY}", path.display(), bytes.len(), stamp.bytes);
        }
        if hex(&bytes) != stamp.sha256 {
            bail!("{}: does not match its checksum; {REMEDY}", path.display());
        }
        Ok(bytes)
    }

    /// Reads every file through.
    ///
    /// # Errors
    /// For the first that is not as it was written.
    pub(super) fn verify(folder: &Path) -> Result<()> {
        let manifest = Manifest::read(folder)?;
        manifest.files.keys().try_for_each(|name| manifest.file(folder, name).map(drop))
    }

    fn own_checksum(&self) -> Result<String> {
        let bare = Manifest { sha256: String::new(), ..self.clone() };
        Ok(hex(&serde_json::to_vec(&bare).context("the manifest cannot be written as JSON")?))
    }
}

/// What to do about a damaged checkpoint.
const REMEDY: &str = "take the last one that is whole with --from last-good";

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{}: cannot be read; {REMEDY}", path.display()))
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(dir: &Path) -> Vec<u8> {
        let mut manifest = Manifest::new(Some(Score { step: 7, success: 0.25 }));
        manifest.add("a", b"first");
        manifest.add("b", b"second");
        manifest.write(dir).unwrap();
        std::fs::read(dir.join(MANIFEST)).unwrap()
    }

    #[test]
    fn every_single_bit_of_a_manifest_that_carries_meaning_is_covered_by_its_checksum() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = written(dir.path());
        let good = Manifest::read(dir.path()).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(dir.path().join(MANIFEST), &flipped).unwrap();
            // A flip between two kinds of white space changes nothing that is read.
            if let Ok(read) = Manifest::read(dir.path()) {
                assert_eq!((read.score, &read.files), (good.score, &good.files), "bit {bit}");
            }
        }
    }

    #[test]
    fn another_format_is_named_with_both_numbers() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(MANIFEST), r#"{"format": 2, "sha256": {}}"#).unwrap();
        let message = format!("{:#}", Manifest::read(dir.path()).unwrap_err());
        assert!(message.contains("has format 2") && message.contains("reads 3"), "{message}");
    }
}
