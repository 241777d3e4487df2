//! WANDS: which of two or three products fits a shopper's query best.
//!
//! **The set-up is this project's own.** The data set (Wayfair's WANDS) has queries, products and human labels (`Exact`,
//! `Partial`, `Irrelevant`); the system this project follows has published accuracies for two and for three options, not
//! the tasks behind them. Numbers got here can therefore not be compared with published ones. The set-up is this:
//!
//! - A task is a query and options, drawn from the products that people labelled for this query. The option with the
//!   highest label is the right one: `2-opt` has two products with different labels, `3-opt` three with one on top, and
//!   `2-opt-neither` two products and the choice `neither`, right where both labels are equal.
//! - The agent sees the query and how many options there are. It looks up the name, class, description or features of an
//!   option, and chooses. An episode is won by the right choice; the score is 1 or 0.
//! - A third of the tasks of `2-opt-neither` have equal labels. The order of the options is drawn.
//! - `valid_unseen` has queries of classes that no training query has; `valid_seen` other queries of training classes.
//!
//! [`Catalogue::open`] reads the public files. Without them [`Catalogue::generate`] makes a catalogue with labels of its own:
//! other words, other products, the same form. It says nothing about real shopping.

mod catalogue;
mod config;
mod env;
mod generate;
mod manner;
mod suite;
mod tasks;

pub use catalogue::{Catalogue, Label, Product, Query};
pub use config::{CatalogueConfig, OptionSet, WandsConfig};
pub use env::{Attribute, WandsEnv};
pub use suite::Wands;
