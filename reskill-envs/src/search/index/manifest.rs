//! What an index is made of, and whether that is still so.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::EnvError;

const MANIFEST: &str = "manifest.json";
const REBUILD: &str = "build it again with `reskill-cli index build`";

/// Version of the layout, the fields and the text analysis. An index of another version is refused.
pub const INDEX_FORMAT: u32 = 1;

/// A file's size and content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Its path below the folder of the index; `/` between folders.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256, in hexadecimal digits.
    pub sha256: String,
}

/// The file that the passages came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorpusIdentity {
    /// The file, as it lies on disk (packed).
    #[serde(flatten)]
    pub file: FileIdentity,
    /// Passages in it.
    pub passages: u64,
}

/// The vectors of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorsIdentity {
    /// [`Embedder::identity`](crate::search::Embedder::identity) of the model that made them.
    pub model: String,
    /// Length of a vector.
    pub dimensions: usize,
}

/// Everything that is known of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`INDEX_FORMAT`].
    pub format: u32,
    /// What was indexed.
    pub corpus: CorpusIdentity,
    /// The vectors, if there are any.
    pub vectors: Option<VectorsIdentity>,
    /// All other files of the index.
    pub files: Vec<FileIdentity>,
}

impl FileIdentity {
    /// Reads the whole file.
    pub(super) fn of(path: &Path, name: String) -> Result<FileIdentity, EnvError> {
        let failed = |source| EnvError::Read { path: path.to_path_buf(), source };
        let mut file = File::open(path).map_err(failed)?;
        let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 18]);
        loop {
            let n = file.read(&mut buffer).map_err(failed)?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
            bytes += n as u64;
        }
        let digest: Vec<String> = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(FileIdentity { name, bytes, sha256: digest.concat() })
    }
}

impl CorpusIdentity {
    /// Reads the whole file; its passages are not counted.
    pub(super) fn of(corpus: &Path) -> Result<FileIdentity, EnvError> {
        let name = corpus.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        FileIdentity::of(corpus, name)
    }
}

impl Manifest {
    /// Reads the manifest of a folder.
    ///
    /// # Errors
    /// [`EnvError::Index`] if there is none, or one of another version.
    pub fn read(dir: &Path) -> Result<Manifest, EnvError> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let path = dir.join(MANIFEST);
        let text = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                odd(dir, format!("holds no complete search index (no {MANIFEST}); {REBUILD}"))
            }
            _ => EnvError::Read { path: path.clone(), source: error },
        })?;
        let broken =
            |error: serde_json::Error| odd(dir, format!("{MANIFEST} is damaged ({error}); {REBUILD}"));
        // The version first: the rest may have changed with it.
        let Versioned { format } = serde_json::from_str(&text).map_err(broken)?;
        if format != INDEX_FORMAT {
            let what = format!("is an index of version {format}, this program reads version {INDEX_FORMAT}");
            return Err(odd(dir, format!("{what}; {REBUILD}")));
        }
        serde_json::from_str(&text).map_err(broken)
    }

    /// Writes the manifest, complete or not at all.
    pub(super) fn write(&self, dir: &Path) -> Result<(), EnvError> {
        let path = dir.join(MANIFEST);
        let temporary = dir.join("manifest.json.tmp");
        let failed = |source| EnvError::Write { path: path.clone(), source };
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        std::fs::write(&temporary, text).map_err(failed)?;
        std::fs::rename(&temporary, &path).map_err(failed)
    }

    /// Compares every file with what was written.
    ///
    /// # Errors
    /// [`EnvError::Index`] for the first file that is missing or differs.
    pub fn check_files(&self, dir: &Path) -> Result<(), EnvError> {
        for expected in &self.files {
            let path = dir.join(&expected.name);
            let damaged = |what: &str| odd(dir, format!("{} {what}; {REBUILD}", expected.name));
            let size = std::fs::metadata(&path).map_err(|_| damaged("is missing"))?.len();
            if size != expected.bytes {
                return Err(damaged(&format!("has {size} bytes instead of {}", expected.bytes)));
            }
            if FileIdentity::of(&path, expected.name.clone())? != *expected {
                return Err(damaged("is damaged: its checksum differs"));
            }
        }
        Ok(())
    }

    /// Whether the index was built from this file, whatever its name.
    ///
    /// # Errors
    /// [`EnvError::Index`] if not, [`EnvError::Read`].
    pub fn check_corpus(&self, dir: &Path, corpus: &Path) -> Result<(), EnvError> {
        let failed = |source| EnvError::Read { path: corpus.to_path_buf(), source };
        let size = std::fs::metadata(corpus).map_err(failed)?.len();
        let built_from = &self.corpus.file;
        if size == built_from.bytes && CorpusIdentity::of(corpus)?.sha256 == built_from.sha256 {
            return Ok(());
        }
        Err(odd(
            dir,
            format!(
                "was built from another corpus ({}, {} bytes, {} passages) than {}; {REBUILD}",
                built_from.name,
                built_from.bytes,
                self.corpus.passages,
                corpus.display()
            ),
        ))
    }
}

/// All files below `dir` as they are now, in the order of their names.
pub(super) fn identify_files(dir: &Path) -> Result<Vec<FileIdentity>, EnvError> {
    let mut files = Vec::new();
    let mut folders = vec![(dir.to_path_buf(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let failed = |source| EnvError::Read { path: folder.clone(), source };
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let path: PathBuf = entry.path();
            if path.is_dir() {
                folders.push((path, format!("{name}/")));
            } else {
                files.push(FileIdentity::of(&path, name)?);
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// An index that cannot be used.
pub(super) fn odd(dir: &Path, reason: String) -> EnvError {
    EnvError::Index { path: dir.to_path_buf(), reason }
}
