//! Properties of the crate as a whole, on a small simulated house.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod world;
mod reference;
mod programs;
mod properties;
mod rules;
mod candidates;
mod reservoir;
mod offline;
mod lifecycle;
mod store;
mod transcript;
#[cfg(feature = "llm")]
mod llm;
mod planted;
mod causes;
mod bank_properties;
mod corpus;
mod library;
