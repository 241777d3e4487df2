//! InterCode-SQL: questions over databases, answered by queries, with the reward of the published environment.
//!
//! An episode shows a question. Each action runs one query (`execute[SQL]`, or a fenced block) and shows its rows as
//! Python prints a list of tuples, or `Error executing query: ...`; `submit` ends the episode with the reward of the rows
//! seen last, `skip` ends it with 0. After ten actions what was seen is submitted. [`reward()`] is the published one, value
//! for value.
//!
//! Where this differs from the original, which runs MySQL in a container:
//!
//! - SQLite runs the queries; `SHOW ...` and `DESC ...` are answered as MySQL does. Numbers print as SQLite's integers and
//!   floats, never as `Decimal(...)`.
//! - Nothing can be written, and no query outlives its limits: SQLite's authorizer admits reading and functions that only
//!   compute (no random numbers either), instructions, rows, bytes and memory are counted. A query beyond a limit fails as
//!   any wrong query does, and its episode goes on.
//! - Databases whose tables are empty upstream (`wta_1`) are left out. There is no training set upstream: see
//!   [`SqlConfig::unseen`] for the splits.

mod action;
mod candidates;
mod config;
mod database;
mod env;
mod game;
mod guard;
mod manner;
mod python;
mod query;
mod reward;
mod show;
mod suite;
mod tasks;

pub use config::{SqlConfig, UNSEEN};
pub use env::{ERROR, SqlEnv};
pub use reward::{kendall_tau_b, reward};
pub use suite::SqlSuite;
