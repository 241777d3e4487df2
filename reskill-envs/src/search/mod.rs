//! Multi-hop question answering with a search engine, in the conventions of Search-R1 (arXiv:2503.09516).
//!
//! An episode is one question. The agent searches (`<search>query</search>`, as a command `search query`) and reads what comes
//! back (`<information>...</information>`, three passages), until it answers (`<answer>...</answer>`, `answer ...`); the last
//! answer counts, by exact match with any gold answer after normalisation.
//!
//! ```text
//! questions/   NQ, HotpotQA, 2Wiki, MuSiQue, Bamboogle, PopQA, TriviaQA in their published shapes -> Question
//! suite        questions by split -> tasks; trained on: NQ and HotpotQA; never seen: the others
//! env          one episode; candidates: queries and answers to choose from; expert: the way to the gold answer
//! index/       BM25 and vectors of a passage file on disk
//! retriever/   one trait: a server, an index by words, by vectors, or by both
//! ```
//!
//! Sentence embeddings come from outside through [`Embedder`]: this crate runs no network.

mod dataset;
mod scores;
mod words;
mod spans;
mod questions;
mod retriever;
mod embedder;
mod index;
mod information;
mod action;
mod config;
mod candidates;
mod env;
mod expert;
mod suite;

pub use action::SearchAction;
pub use config::{RetrieverKind, SearchConfig};
pub use dataset::Dataset;
pub use embedder::Embedder;
pub use env::SearchEnv;
pub use index::{
    BuildOptions, BuildStage, CorpusIdentity, CorpusPassage, FileIdentity, INDEX_FORMAT, Manifest,
    SearchIndex, VectorsIdentity, build_index, for_each_passage,
};
pub use information::{InformationFormat, information};
pub use questions::{Part, Question, read_questions};
pub use retriever::{
    EmbeddedRetriever, HttpConfig, HttpRetriever, Passage, Ranking, Retriever, reciprocal_rank_fusion,
};
pub use scores::{AnswerScores, normalise_answer, score_answer};
pub use suite::Search;
