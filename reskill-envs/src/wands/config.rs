//! Settings of the product choices.

use serde::{Deserialize, Serialize};

use crate::error::EnvError;

/// What is chosen from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OptionSet {
    /// Two products.
    Two,
    /// Three products.
    Three,
    /// Two products, or neither of them.
    TwoOrNeither,
}

impl OptionSet {
    /// The task family: `2-opt`, `3-opt` or `2-opt-neither`.
    #[must_use]
    pub fn family(self) -> &'static str {
        match self {
            OptionSet::Two => "2-opt",
            OptionSet::Three => "3-opt",
            OptionSet::TwoOrNeither => "2-opt-neither",
        }
    }

    /// How many products there are.
    #[must_use]
    pub fn n_products(self) -> usize {
        if self == OptionSet::Three { 3 } else { 2 }
    }
}

/// Which tasks are made of a catalogue, and what an agent is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct WandsConfig {
    /// Seed of the tasks and of the splits. Default 0.
    pub seed: u64,
    /// The kinds of tasks, at least one, none twice. Default: two and three products.
    pub options: Vec<OptionSet>,
    /// Tasks of each kind that a query gives, in 1..=64, as far as its labels allow. Default 4.
    pub tasks_per_query: usize,
    /// Share of query classes that are `valid_unseen`, in 0..1. Default 0.2.
    pub unseen_share: f64,
    /// Characters of a description that are shown; 0: all. Default 600.
    pub shown_chars: usize,
    /// Features of a product that are shown, the first ones; 0: all. Default 24.
    pub shown_features: usize,
    /// Puts a `*` before every word of a look-up that is in the query: help for small policies. Default false.
    pub mark_query_words: bool,
    /// The catalogue that is generated where no data is given.
    pub catalogue: CatalogueConfig,
}

/// A generated catalogue. Equal settings give equal catalogues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CatalogueConfig {
    /// Seed of everything that is drawn. Default 0.
    pub seed: u64,
    /// Queries, in 1..=100,000. Default 400.
    pub n_queries: usize,
    /// Products that are labelled for each query, in 6..=200. Default 16.
    pub products_per_query: usize,
}

impl Default for WandsConfig {
    fn default() -> Self {
        WandsConfig {
            seed: 0,
            options: vec![OptionSet::Two, OptionSet::Three],
            tasks_per_query: 4,
            unseen_share: 0.2,
            shown_chars: 600,
            shown_features: 24,
            mark_query_words: false,
            catalogue: CatalogueConfig::default(),
        }
    }
}

impl Default for CatalogueConfig {
    fn default() -> Self {
        CatalogueConfig { seed: 0, n_queries: 400, products_per_query: 16 }
    }
}

impl WandsConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`EnvError::Config`] for the first value that is out of range.
    pub fn validate(&self) -> Result<(), EnvError> {
        let repeated =
            (1..self.options.len()).any(|index| self.options[..index].contains(&self.options[index]));
        if self.options.is_empty() || repeated {
            return out_of_range("options", format!("{:?}", self.options), "at least one kind, none twice");
        }
        if !(1..=64).contains(&self.tasks_per_query) {
            return out_of_range("tasks_per_query", self.tasks_per_query.to_string(), "1 to 64");
        }
        if !(0.0..1.0).contains(&self.unseen_share) {
            return out_of_range("unseen_share", self.unseen_share.to_string(), "a number in [0, 1)");
        }
        self.catalogue.validate()
    }
}

impl CatalogueConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`EnvError::Config`] for the first value that is out of range.
    pub fn validate(&self) -> Result<(), EnvError> {
        if !(1..=100_000).contains(&self.n_queries) {
            return out_of_range("n_queries", self.n_queries.to_string(), "1 to 100000");
        }
        if !(6..=200).contains(&self.products_per_query) {
            return out_of_range("products_per_query", self.products_per_query.to_string(), "6 to 200");
        }
        Ok(())
    }
}

fn out_of_range(key: &'static str, value: String, expected: &'static str) -> Result<(), EnvError> {
    Err(EnvError::Config { key, value, expected })
}
