//! Opening the search environment: its questions, and a retriever over an index that is built where there is none.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use reskill_envs::EnvError;
use reskill_envs::search::{
    BuildOptions, BuildStage, EmbeddedRetriever, Embedder, HttpRetriever, Ranking, Retriever, RetrieverKind,
    Search, SearchConfig, SearchIndex, build_index, read_questions,
};
use sha2::{Digest, Sha256};

use crate::env_config::EnvConfig;
use crate::progress::Progress;
use crate::sentence_embedder::SentenceEmbedder;

/// Questions and retriever of a configuration.
///
/// # Errors
/// One line that names the file, the key or the server.
pub fn open_search(config: &EnvConfig) -> Result<Search> {
    let data = config.data.as_deref().context("`env.data` is missing: --set env.data=DIR")?;
    config.search.validate().context("env.search")?;
    // Questions first: what is wrong with them is seen before an index is built.
    read_questions(data).context("env.data: give a folder of question files, or one of them")?;
    let retriever = open_retriever(&config.search, data)?;
    Ok(Search::open_path(data, retriever, &config.search)?)
}

/// The retriever of a configuration; `data` is where the questions are.
///
/// # Errors
/// One line that names the file, the key or the server.
pub fn open_retriever(config: &SearchConfig, data: &Path) -> Result<Arc<dyn Retriever>> {
    let ranking = match config.retriever {
        RetrieverKind::Http => return Ok(Arc::new(HttpRetriever::new(&config.http).context("env.search")?)),
        RetrieverKind::Bm25 => Ranking::Bm25,
        RetrieverKind::Dense => Ranking::Dense,
        RetrieverKind::Hybrid => Ranking::Hybrid,
    };
    let embedder: Option<Arc<dyn Embedder>> = match (&config.model, ranking) {
        (Some(model), Ranking::Dense | Ranking::Hybrid) => Some(Arc::new(SentenceEmbedder::open(model)?)),
        _ => None,
    };
    let index = open_index(config, data, embedder.as_deref())?;
    Ok(Arc::new(EmbeddedRetriever::new(Arc::new(index), ranking, embedder)?))
}

/// The configured index; or that of the user's cache, which is built if it is missing, stale or damaged.
fn open_index(config: &SearchConfig, data: &Path, embedder: Option<&dyn Embedder>) -> Result<SearchIndex> {
    let corpus = match &config.corpus {
        Some(corpus) => Some(corpus.clone()),
        None => corpus_beside(data),
    };
    if let Some(dir) = &config.index {
        // Without the file of passages the index stands for itself.
        return SearchIndex::open(dir, corpus.as_deref()).context("env.search.index");
    }
    let Some(corpus) = corpus else {
        bail!(
            "`env.search.corpus` is missing, and {} has no file corpus.*: give the passages, an index or a server",
            data.display()
        );
    };
    let dir = cached_index(&corpus, embedder)?;
    match SearchIndex::open(&dir, Some(&corpus)) {
        Ok(index) => return Ok(index),
        // The cache is ours: what cannot be used is built again.
        Err(EnvError::Index { .. }) if dir.exists() => std::fs::remove_dir_all(&dir)
            .with_context(|| format!("{}: a stale index cannot be removed", dir.display()))?,
        Err(EnvError::Index { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("{}: cannot be made; give env.search.index", parent.display()))?;
    }
    let options = BuildOptions { embedder, ..BuildOptions::default() };
    match build_with_progress(&corpus, &dir, &options) {
        Ok(index) => Ok(index),
        // Another process may have built the same in the meantime.
        Err(error) => Ok(SearchIndex::open(&dir, Some(&corpus)).map_err(|_| error)?),
    }
}

/// The file of passages in the folder of the questions.
fn corpus_beside(data: &Path) -> Option<PathBuf> {
    let dir = if data.is_dir() { data } else { data.parent()? };
    ["jsonl.gz", "jsonl.zst", "jsonl", "tsv.gz", "tsv.zst", "tsv"]
        .into_iter()
        .map(|ending| dir.join(format!("corpus.{ending}")))
        .find(|path| path.is_file())
}

/// Where the index of a corpus lies in the cache: a folder named after the path of the corpus and the model.
fn cached_index(corpus: &Path, embedder: Option<&dyn Embedder>) -> Result<PathBuf> {
    let corpus =
        std::fs::canonicalize(corpus).with_context(|| format!("{}: cannot be read", corpus.display()))?;
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    let mut hash = Sha256::new();
    hash.update(corpus.as_os_str().as_encoded_bytes());
    hash.update(embedder.map_or("", Embedder::identity));
    let name: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Ok(cache.unwrap_or_else(std::env::temp_dir).join("reskill/search").join(name))
}

/// Builds an index with a progress bar.
///
/// # Errors
/// Those of [`build_index`].
pub fn build_with_progress(
    corpus: &Path,
    out: &Path,
    options: &BuildOptions<'_>,
) -> Result<SearchIndex, EnvError> {
    // How many passages there are is known only when all are read.
    let mut progress = Progress::new("index", "passages", 0, true);
    let mut shown = None;
    let built = build_index(corpus, out, options, &mut |stage, done, total| {
        if shown != Some(stage) {
            shown = Some(stage);
            progress.restart(total);
        }
        let what = match stage {
            BuildStage::Words => "words",
            BuildStage::Merge => "merging",
            BuildStage::Vectors => "vectors",
            BuildStage::Check => "checksums",
        };
        progress.set(done, what);
    });
    progress.finish();
    built
}
