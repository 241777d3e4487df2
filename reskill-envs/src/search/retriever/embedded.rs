//! A retriever inside the process, over an index on disk.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::fusion::reciprocal_rank_fusion;
use super::{Passage, Retriever};
use crate::error::EnvError;
use crate::search::embedder::Embedder;
use crate::search::index::SearchIndex;

/// The constant of reciprocal rank fusion.
const FUSION_K: f32 = 60.0;
/// How deep each ranking is fused, at least.
const FUSION_DEPTH: usize = 50;

/// What passages are ranked by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ranking {
    /// BM25.
    #[default]
    Bm25,
    /// Inner products of sentence embeddings, nearest neighbours being searched for approximately.
    Dense,
    /// Both, fused by reciprocal ranks.
    Hybrid,
}

/// Searches an index.
#[derive(Debug)]
pub struct EmbeddedRetriever {
    index: Arc<SearchIndex>,
    ranking: Ranking,
    embedder: Option<Arc<dyn Embedder>>,
}

impl EmbeddedRetriever {
    /// A retriever over `index`; `embedder` must be the model that its vectors were made with, and is needed unless the
    /// ranking is BM25.
    ///
    /// # Errors
    /// [`EnvError::Index`] if the index has no vectors, or those of another model; [`EnvError::Embedding`] without a model.
    pub fn new(
        index: Arc<SearchIndex>,
        ranking: Ranking,
        embedder: Option<Arc<dyn Embedder>>,
    ) -> Result<EmbeddedRetriever, EnvError> {
        if ranking == Ranking::Bm25 {
            return Ok(EmbeddedRetriever { index, ranking, embedder: None });
        }
        let odd = |reason: String| EnvError::Index { path: index.dir().to_path_buf(), reason };
        let Some(vectors) = &index.manifest().vectors else {
            return Err(odd(
                "has no vectors: build it with `reskill-cli index build --dense MODEL_DIR`".into()
            ));
        };
        let Some(model) = &embedder else {
            return Err(EnvError::Embedding { reason: "none is given, but the ranking needs one".into() });
        };
        if model.identity() != vectors.model {
            let (found, given) = (&vectors.model, model.identity());
            return Err(odd(format!("has vectors of the model {found}, not of {given}; build it again")));
        }
        Ok(EmbeddedRetriever { index, ranking, embedder })
    }

    fn rank(
        &self,
        query: &str,
        vector: Option<&Vec<f32>>,
        top_k: usize,
    ) -> Result<Vec<(u64, f32)>, EnvError> {
        let vector = vector.map(Vec::as_slice).unwrap_or_default();
        match self.ranking {
            Ranking::Bm25 => self.index.rank_by_words(query, top_k),
            Ranking::Dense => self.index.rank_by_vector(vector, top_k),
            Ranking::Hybrid => {
                let depth = top_k.max(FUSION_DEPTH);
                let rows = |ranked: Vec<(u64, f32)>| ranked.into_iter().map(|(row, _)| row).collect();
                let by_words = rows(self.index.rank_by_words(query, depth)?);
                let by_vector = rows(self.index.rank_by_vector(vector, depth)?);
                let mut fused = reciprocal_rank_fusion(&[by_words, by_vector], FUSION_K);
                fused.truncate(top_k);
                Ok(fused)
            }
        }
    }
}

impl Retriever for EmbeddedRetriever {
    fn retrieve(&self, queries: &[&str], top_k: usize) -> Result<Vec<Vec<Passage>>, EnvError> {
        let vectors = match &self.embedder {
            Some(embedder) => embedder.embed(queries)?,
            None => Vec::new(),
        };
        let passages = |(index, query): (usize, &&str)| {
            let ranked = self.rank(query, vectors.get(index), top_k)?;
            ranked.into_iter().map(|(row, score)| self.index.passage(row, score)).collect()
        };
        queries.iter().enumerate().map(passages).collect()
    }
}
