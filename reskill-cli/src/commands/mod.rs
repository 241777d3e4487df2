//! The commands, one file or folder each.

pub mod bench;
pub mod config;
pub mod env;
pub mod eval;
pub mod report;
pub mod export;
pub mod index;
pub mod train;
pub mod adapt;
pub mod sft;
pub mod skills;
pub mod score;
pub mod generate;
pub mod study;
pub mod doctor;
pub mod completions;
