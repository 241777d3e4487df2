//! A search index on disk: BM25 over a file of passages and, if it was built with a model, their vectors.
//!
//! ```text
//! DIR/manifest.json     what the index is made of; written last, so a folder without it is no index
//! DIR/bm25/             one merged segment of tantivy: postings, lengths, the passages themselves
//! DIR/vectors.usearch   graph and vectors of the passages
//! ```
//!
//! A passage is known by its row: its place in the file, from 0.

mod bm25;
mod build;
mod corpus;
mod manifest;
mod read_only;
#[cfg(feature = "search-dense")]
mod vectors;

use std::path::{Path, PathBuf};

use crate::error::EnvError;
use crate::search::retriever::Passage;

use bm25::Bm25;
pub use build::{BuildOptions, BuildStage, build_index};
pub use corpus::{CorpusPassage, for_each_passage};
pub use manifest::{CorpusIdentity, FileIdentity, INDEX_FORMAT, Manifest, VectorsIdentity};

const BM25: &str = "bm25";
#[cfg(feature = "search-dense")]
const VECTORS: &str = "vectors.usearch";

/// An opened index. Its files are mapped into memory, not read.
#[derive(Debug)]
pub struct SearchIndex {
    dir: PathBuf,
    manifest: Manifest,
    bm25: Bm25,
    #[cfg(feature = "search-dense")]
    vectors: Option<vectors::Vectors>,
}

impl SearchIndex {
    /// Opens an index after a check of every file against the manifest. With `corpus` the index must have been built from
    /// exactly that file.
    ///
    /// # Errors
    /// [`EnvError::Index`] if it is missing, damaged, of another version or of another corpus; [`EnvError::Read`].
    pub fn open(dir: &Path, corpus: Option<&Path>) -> Result<SearchIndex, EnvError> {
        let manifest = Manifest::read(dir)?;
        manifest.check_files(dir)?;
        if let Some(corpus) = corpus {
            manifest.check_corpus(dir, corpus)?;
        }
        let bm25 = Bm25::open(&dir.join(BM25), manifest.corpus.passages)?;
        #[cfg(feature = "search-dense")]
        let vectors = match &manifest.vectors {
            Some(identity) => {
                Some(vectors::Vectors::open(&dir.join(VECTORS), identity, manifest.corpus.passages)?)
            }
            None => None,
        };
        Ok(SearchIndex {
            dir: dir.to_path_buf(),
            manifest,
            bm25,
            #[cfg(feature = "search-dense")]
            vectors,
        })
    }

    /// What the index is made of.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Rows of the best passages by BM25 (k1 1.2, b 0.75) with their scores, best first; equal scores by the lower row. Words
    /// such as `the` and `who` count only in a query that has no others; passages without any word of the query are left
    /// out.
    ///
    /// # Errors
    /// [`EnvError::Index`].
    pub fn rank_by_words(&self, query: &str, top_k: usize) -> Result<Vec<(u64, f32)>, EnvError> {
        self.bm25.rank(query, top_k)
    }

    /// Rows of the passages whose vectors have the greatest inner products with `query`, greatest first.
    ///
    /// # Errors
    /// [`EnvError::Index`], also for an index without vectors.
    pub fn rank_by_vector(&self, query: &[f32], top_k: usize) -> Result<Vec<(u64, f32)>, EnvError> {
        #[cfg(feature = "search-dense")]
        if let Some(vectors) = &self.vectors {
            return vectors.rank(query, top_k);
        }
        let _ = (query, top_k);
        Err(EnvError::Index {
            path: self.dir.clone(),
            reason: "has no vectors: build it with `reskill-cli index build --dense MODEL_DIR`".into(),
        })
    }

    /// The passage of a row.
    ///
    /// # Errors
    /// [`EnvError::Index`] if there is no such row.
    pub fn passage(&self, row: u64, score: f32) -> Result<Passage, EnvError> {
        self.bm25.passage(row, score)
    }
}
