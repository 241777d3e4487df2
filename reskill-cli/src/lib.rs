//! ReSkill: training of language-model agents whose skills evolve with the policy.
//!
//! This library is the program `reskill-cli`, in parts: [`config`], [`rollout`], [`trainer`], [`evaluate`] and the files
//! of a run. `main.rs` only parses the command line.
#![forbid(unsafe_code)]

pub mod schedule;
pub mod device;
pub mod model_config;
pub mod env_config;
pub mod presets;
pub mod log_config;
pub mod config;
pub mod config_source;
pub mod schema;
pub mod streams;
pub mod suites;
pub mod search;
pub mod sentence_embedder;
pub mod language;
pub mod model_source;
pub mod base_model;
pub mod policy;
pub mod rollout;
pub mod warm_start;
pub mod creators;
pub mod evaluate;
pub mod statistics;
pub mod unknown_words;
pub mod validation;
pub mod trainer;
pub mod summary;
pub mod checkpoint;
pub mod jsonl;
pub mod episodes;
pub mod failure_modes;
pub mod journal;
mod metrics_lines;
pub mod run_dir;
pub mod resources;
pub mod memory;
pub mod output;
pub mod logging;
pub mod progress;
pub mod tui;
pub mod report;
pub mod study;
pub mod audit;
pub mod remedy;
pub mod commands;

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct ReadmeExamples;
