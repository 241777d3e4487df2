//! Ranking by vectors: a graph of near neighbours (HNSW), kept by the crate `usearch`.
//!
//! Vectors are f32, the measure is the inner product. The graph is built by one thread, so that equal corpora give equal
//! files; an opened one is mapped into memory with its vectors.

use std::path::Path;

use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

use super::corpus::CorpusPassage;
use super::manifest::{VectorsIdentity, odd};
use crate::error::EnvError;
use crate::search::embedder::Embedder;

/// Neighbours of a vector in the graph.
const CONNECTIVITY: usize = 16;
/// Candidates that are looked at when a vector is added.
const EXPANSION_ADD: usize = 128;
/// Candidates that are looked at in a search.
const EXPANSION_SEARCH: usize = 128;

fn options(dimensions: usize) -> IndexOptions {
    IndexOptions {
        dimensions,
        metric: MetricKind::IP,
        quantization: ScalarKind::F32,
        connectivity: CONNECTIVITY,
        expansion_add: EXPANSION_ADD,
        expansion_search: EXPANSION_SEARCH,
        multi: false,
    }
}

/// Collects the vectors of passages.
pub(super) struct VectorsWriter<'a> {
    embedder: &'a dyn Embedder,
    index: Index,
    batch_size: usize,
    waiting: Vec<String>,
    n_passages: u64,
}

impl<'a> VectorsWriter<'a> {
    pub(super) fn new(
        embedder: &'a dyn Embedder,
        n_passages: u64,
        batch_size: usize,
    ) -> Result<VectorsWriter<'a>, EnvError> {
        let path = Path::new("vectors");
        let index = Index::new(&options(embedder.dimensions())).map_err(|error| failure(path, &error))?;
        index.reserve(n_passages as usize).map_err(|error| failure(path, &error))?;
        Ok(VectorsWriter {
            embedder,
            index,
            batch_size: batch_size.max(1),
            waiting: Vec::new(),
            n_passages: 0,
        })
    }

    pub(super) fn add(&mut self, passage: CorpusPassage) -> Result<(), EnvError> {
        self.waiting.push(embedded_text(&passage));
        if self.waiting.len() == self.batch_size { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), EnvError> {
        let texts: Vec<&str> = self.waiting.iter().map(String::as_str).collect();
        let vectors = self.embedder.embed(&texts)?;
        if vectors.len() != texts.len() {
            let reason = format!("{} vectors for {} texts", vectors.len(), texts.len());
            return Err(EnvError::Embedding { reason });
        }
        for vector in vectors {
            self.index
                .add(self.n_passages, &vector)
                .map_err(|error| failure(Path::new("vectors"), &error))?;
            self.n_passages += 1;
        }
        self.waiting.clear();
        Ok(())
    }

    pub(super) fn finish(mut self, path: &Path) -> Result<VectorsIdentity, EnvError> {
        self.flush()?;
        self.index.save(&path.to_string_lossy()).map_err(|error| failure(path, &error))?;
        let model = self.embedder.identity().to_owned();
        Ok(VectorsIdentity { model, dimensions: self.embedder.dimensions() })
    }
}

/// What stands for a passage: its title and its text.
fn embedded_text(passage: &CorpusPassage) -> String {
    format!("{}\n{}", passage.title, passage.text)
}

/// Mapped vectors with their graph.
pub(super) struct Vectors {
    path: std::path::PathBuf,
    index: Index,
}

impl std::fmt::Debug for Vectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vectors").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Vectors {
    pub(super) fn open(
        path: &Path,
        identity: &VectorsIdentity,
        n_passages: u64,
    ) -> Result<Vectors, EnvError> {
        let index = Index::new(&options(identity.dimensions)).map_err(|error| failure(path, &error))?;
        index.view(&path.to_string_lossy()).map_err(|error| failure(path, &error))?;
        if (index.size() as u64, index.dimensions()) != (n_passages, identity.dimensions) {
            let found = format!("has {} vectors of {} numbers", index.size(), index.dimensions());
            let expected = format!("{n_passages} of {}", identity.dimensions);
            return Err(odd(path, format!("{found}, expected {expected}; build it again")));
        }
        index.change_expansion_search(EXPANSION_SEARCH);
        Ok(Vectors { path: path.to_path_buf(), index })
    }

    /// Rows and inner products, greatest first.
    pub(super) fn rank(&self, query: &[f32], top_k: usize) -> Result<Vec<(u64, f32)>, EnvError> {
        if query.len() != self.index.dimensions() {
            let (found, expected) = (query.len(), self.index.dimensions());
            let reason = format!("a vector of {found} numbers for an index of {expected}");
            return Err(EnvError::Embedding { reason });
        }
        if top_k == 0 {
            return Ok(Vec::new());
        }
        let found = self.index.search(query, top_k).map_err(|error| failure(&self.path, &error))?;
        // The distance is 1 - <a, b>.
        let mut ranked: Vec<(u64, f32)> =
            found.keys.into_iter().zip(found.distances.into_iter().map(|distance| 1.0 - distance)).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        Ok(ranked)
    }
}

fn failure(path: &Path, error: &impl std::fmt::Display) -> EnvError {
    odd(
        path,
        format!("the vector index cannot be used: {error}; build it again with `reskill-cli index build`"),
    )
}
