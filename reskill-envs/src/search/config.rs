//! Settings of the search environment.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::dataset::Dataset;
use super::information::InformationFormat;
use super::retriever::HttpConfig;
use crate::error::EnvError;

/// Where passages come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RetrieverKind {
    /// An index on this machine, by words.
    #[default]
    Bm25,
    /// The same, by sentence embeddings.
    Dense,
    /// The same, by both.
    Hybrid,
    /// A server.
    Http,
}

/// The search environment: which questions, which retriever, how results are shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct SearchConfig {
    /// Where passages come from: `bm25`, `dense`, `hybrid` or `http`. Default `bm25`.
    pub retriever: RetrieverKind,
    /// File of passages. Absent: the file `corpus.*` in the folder of the questions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corpus: Option<PathBuf>,
    /// Folder of the index over it, as `reskill-cli index build` makes it. Absent: a folder of the user's cache, where the
    /// index is built at the first use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<PathBuf>,
    /// Folder of the sentence-embedding model; needed for `dense` and `hybrid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// Servers; needed for `http`.
    pub http: HttpConfig,
    /// Passages a search brings, 1..=100. Default 3.
    pub top_k: usize,
    /// Searches and answers an episode has at most, 1..=1000. Default 30.
    pub max_steps: usize,
    /// How passages are shown: `search_r1` or `json`. Default `search_r1`.
    pub information: InformationFormat,
    /// Help for small policies: queries and answers to choose from are listed as admissible commands, made of the question
    /// and of what was retrieved, never of the gold answer. Default false: free text.
    pub candidates: bool,
    /// Queries and answers listed at a time, 4..=1000. Default 80.
    pub max_candidates: usize,
    /// Sets that are trained on: their questions are split into `train` and `valid_seen`; those of all other sets are
    /// `valid_unseen`. Default `nq` and `hotpotqa`.
    pub seen: Vec<Dataset>,
    /// Takes only these sets. Empty: all that the data has.
    pub datasets: Vec<Dataset>,
    /// Leaves out questions of which the data says that its corpus does not answer them. Default true.
    pub answerable_only: bool,
    /// Share of the questions of seen sets that is for training, where the data has no training part of its own, in
    /// 0..=1. Which they are depends on their ids alone. Default 0.5.
    pub train_fraction: f64,
}

impl Default for SearchConfig {
    fn default() -> Self {
        SearchConfig {
            retriever: RetrieverKind::Bm25,
            corpus: None,
            index: None,
            model: None,
            http: HttpConfig::default(),
            top_k: 3,
            max_steps: 30,
            information: InformationFormat::SearchR1,
            candidates: false,
            max_candidates: 80,
            seen: ["nq", "hotpotqa"].map(Dataset::new).to_vec(),
            datasets: Vec::new(),
            answerable_only: true,
            train_fraction: 0.5,
        }
    }
}

impl SearchConfig {
    /// Checks the ranges, and that what the retriever needs is given.
    ///
    /// # Errors
    /// [`EnvError::Config`] for the first value that is out of range.
    pub fn validate(&self) -> Result<(), EnvError> {
        let refuse = |key, value: String, expected| Err(EnvError::Config { key, value, expected });
        self.http.validate()?;
        if !(1..=100).contains(&self.top_k) {
            return refuse("top_k", self.top_k.to_string(), "1 to 100");
        }
        if !(1..=1000).contains(&self.max_steps) {
            return refuse("max_steps", self.max_steps.to_string(), "1 to 1000");
        }
        if !(4..=1000).contains(&self.max_candidates) {
            return refuse("max_candidates", self.max_candidates.to_string(), "4 to 1000");
        }
        if !(0.0..=1.0).contains(&self.train_fraction) {
            return refuse("train_fraction", self.train_fraction.to_string(), "a number in [0, 1]");
        }
        match self.retriever {
            RetrieverKind::Http if self.http.urls.is_empty() => {
                refuse("http.urls", "[]".into(), "at least one address for the retriever `http`")
            }
            RetrieverKind::Dense | RetrieverKind::Hybrid if self.model.is_none() => {
                refuse("model", "(absent)".into(), "the folder of a sentence-embedding model")
            }
            _ => Ok(()),
        }
    }
}
