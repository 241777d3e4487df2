//! The search environment, its retrievers and its index.

mod scores;
mod questions;
mod index;
mod server;
mod http;
mod play;
mod expert;
mod real_data;
#[cfg(feature = "search-dense")]
mod dense;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reskill_envs::search::{
    BuildOptions, EmbeddedRetriever, Ranking, Retriever, Search, SearchConfig, SearchIndex, build_index,
};

/// The folder of these tests' data: a dozen passages and questions about an invented country.
pub(super) fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/search/data")
}

/// An index of the passages, by words.
pub(super) fn word_index(dir: &Path) -> SearchIndex {
    let corpus = data().join("corpus.jsonl");
    build_index(&corpus, &dir.join("index"), &BuildOptions::default(), &mut |_, _, _| {}).unwrap()
}

/// A retriever over it. The files may go once they are mapped.
pub(super) fn word_retriever() -> Arc<dyn Retriever> {
    let dir = tempfile::tempdir().unwrap();
    let index = Arc::new(word_index(dir.path()));
    Arc::new(EmbeddedRetriever::new(index, Ranking::Bm25, None).unwrap())
}

/// The questions with that retriever.
pub(super) fn suite(config: &SearchConfig) -> Search {
    Search::open_path(&data(), word_retriever(), config).unwrap()
}
