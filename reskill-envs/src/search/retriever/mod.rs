//! Retrievers: passages for queries, behind one trait.

mod embedded;
mod fusion;
mod http;

use crate::error::EnvError;

pub use embedded::{EmbeddedRetriever, Ranking};
pub use fusion::reciprocal_rank_fusion;
pub use http::{HttpConfig, HttpRetriever};

/// One retrieved passage.
#[derive(Debug, Clone, PartialEq)]
pub struct Passage {
    /// Title of the article it is from; may be empty.
    pub title: String,
    /// Its text.
    pub text: String,
    /// How well it fits the query, in the retriever's own unit; 0 where the retriever does not tell.
    pub score: f32,
}

impl Passage {
    /// A passage from Search-R1's `contents`: the title, a line break, the text.
    #[must_use]
    pub fn from_contents(contents: &str, score: f32) -> Passage {
        let (title, text) = contents.split_once('\n').unwrap_or((contents, ""));
        Passage { title: title.to_owned(), text: text.to_owned(), score }
    }
}

/// Finds passages.
pub trait Retriever: Send + Sync + std::fmt::Debug {
    /// The `top_k` best passages of every query, best first; fewer if there are fewer. Lists come in the order of the
    /// queries.
    ///
    /// # Errors
    /// [`EnvError::Fault`] if no server answers as it should, [`EnvError::Index`], [`EnvError::Embedding`].
    fn retrieve(&self, queries: &[&str], top_k: usize) -> Result<Vec<Vec<Passage>>, EnvError>;
}
