//! The commands, one file each.

pub mod bench;
pub mod train;
pub mod sft;
pub mod skills;
pub mod score;
pub mod generate;
