//! Tests of the environments through their public interface.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod data;
mod transcript;
mod engine;
mod variants;
mod alfworld_data;
mod golden;
mod household;
mod corpus;
mod external;
#[cfg(feature = "scienceworld")]
mod scienceworld;
#[cfg(feature = "sql")]
mod sql;
#[cfg(feature = "wands")]
mod wands;
#[cfg(feature = "search")]
mod search;
