//! Properties of the crate as a whole, on a small simulated house.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod world;
mod rules;
mod reservoir;
mod offline;
mod lifecycle;
mod store;
mod planted;
mod causes;
mod properties;
mod corpus;
mod library;
