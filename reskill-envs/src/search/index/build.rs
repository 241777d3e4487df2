//! Building an index.

use std::path::{Path, PathBuf};

use super::bm25::Bm25Writer;
use super::corpus::for_each_passage;
use super::manifest::{CorpusIdentity, INDEX_FORMAT, Manifest, identify_files};
use super::{BM25, SearchIndex};
use crate::error::EnvError;
use crate::search::embedder::Embedder;

/// How an index is built.
#[derive(Debug, Clone, Copy)]
pub struct BuildOptions<'a> {
    /// What is held in memory before it is written, in bytes; at least 15 MB.
    pub memory_bytes: usize,
    /// A model whose vectors are kept as well.
    pub embedder: Option<&'a dyn Embedder>,
    /// Texts that the model is given at a time.
    pub batch_size: usize,
}

impl Default for BuildOptions<'_> {
    fn default() -> Self {
        BuildOptions { memory_bytes: 256 << 20, embedder: None, batch_size: 64 }
    }
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildStage {
    /// Passages are read and their words indexed; how many there are is not known yet.
    Words,
    /// What was written is brought together.
    Merge,
    /// Passages are turned into vectors.
    Vectors,
    /// Files are read once more for their checksums.
    Check,
}

/// Builds the index of a corpus in a new folder, and opens it. The folder appears when all is done: an interrupted build
/// leaves nothing that could be taken for an index.
///
/// `progress(stage, done, total)` counts passages; `total` is 0 where it is not known.
///
/// # Errors
/// [`EnvError::Index`] if `out` exists, or the disk fails; those of [`for_each_passage`] and of the embedder.
pub fn build_index(
    corpus: &Path,
    out: &Path,
    options: &BuildOptions<'_>,
    progress: &mut dyn FnMut(BuildStage, u64, u64),
) -> Result<SearchIndex, EnvError> {
    if out.exists() {
        let reason = "exists already; give another folder, or remove it first".into();
        return Err(EnvError::Index { path: out.to_path_buf(), reason });
    }
    let work = Unfinished::beside(out)?;
    let n_passages = index_words(corpus, &work.0.join(BM25), options, progress)?;
    let vectors = index_vectors(corpus, &work.0, options, n_passages, progress)?;
    progress(BuildStage::Check, 0, n_passages);
    let manifest = Manifest {
        format: INDEX_FORMAT,
        corpus: CorpusIdentity { file: CorpusIdentity::of(corpus)?, passages: n_passages },
        vectors,
        files: identify_files(&work.0)?,
    };
    manifest.write(&work.0)?;
    let failed = |source| EnvError::Write { path: out.to_path_buf(), source };
    std::fs::rename(&work.0, out).map_err(failed)?;
    SearchIndex::open(out, None)
}

fn index_words(
    corpus: &Path,
    dir: &Path,
    options: &BuildOptions<'_>,
    progress: &mut dyn FnMut(BuildStage, u64, u64),
) -> Result<u64, EnvError> {
    std::fs::create_dir_all(dir).map_err(|source| EnvError::Write { path: dir.to_path_buf(), source })?;
    let mut writer = Bm25Writer::create(dir, options.memory_bytes)?;
    let mut n_done = 0;
    let n_passages = for_each_passage(corpus, &mut |passage| {
        writer.add(&passage)?;
        n_done += 1;
        if n_done % 1000 == 0 {
            progress(BuildStage::Words, n_done, 0);
        }
        Ok(())
    })?;
    progress(BuildStage::Merge, 0, n_passages);
    writer.finish()?;
    // Locks of the writer; an opened index needs none.
    for lock in [".tantivy-writer.lock", ".tantivy-meta.lock"] {
        // Not there is as good as gone.
        let _ = std::fs::remove_file(dir.join(lock));
    }
    Ok(n_passages)
}

#[cfg(feature = "search-dense")]
fn index_vectors(
    corpus: &Path,
    dir: &Path,
    options: &BuildOptions<'_>,
    n_passages: u64,
    progress: &mut dyn FnMut(BuildStage, u64, u64),
) -> Result<Option<super::VectorsIdentity>, EnvError> {
    let Some(embedder) = options.embedder else { return Ok(None) };
    let mut writer = super::vectors::VectorsWriter::new(embedder, n_passages, options.batch_size)?;
    let mut n_done = 0;
    for_each_passage(corpus, &mut |passage| {
        writer.add(passage)?;
        n_done += 1;
        if n_done % options.batch_size.max(1) as u64 == 0 {
            progress(BuildStage::Vectors, n_done, n_passages);
        }
        Ok(())
    })?;
    writer.finish(&dir.join(super::VECTORS)).map(Some)
}

#[cfg(not(feature = "search-dense"))]
fn index_vectors(
    _corpus: &Path,
    dir: &Path,
    options: &BuildOptions<'_>,
    _n_passages: u64,
    _progress: &mut dyn FnMut(BuildStage, u64, u64),
) -> Result<Option<super::VectorsIdentity>, EnvError> {
    match options.embedder {
        None => Ok(None),
        Some(_) => {
            let reason = "vectors need the feature `search-dense` of reskill-envs".into();
            Err(EnvError::Index { path: dir.to_path_buf(), reason })
        }
    }
}

/// A folder beside the one that is to be; removed unless it was renamed.
struct Unfinished(PathBuf);

impl Unfinished {
    fn beside(out: &Path) -> Result<Unfinished, EnvError> {
        let name = out.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let dir = out.with_file_name(format!(".{name}.unfinished-{}", std::process::id()));
        let failed = |source| EnvError::Write { path: dir.clone(), source };
        std::fs::create_dir_all(&dir).map_err(failed)?;
        Ok(Unfinished(dir))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Gone already when all went well; otherwise what is left is only clutter.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
