//! The commands, one file or folder each.

pub mod bench;
pub mod env;
pub mod index;
pub mod train;
pub mod sft;
pub mod skills;
pub mod score;
pub mod generate;
