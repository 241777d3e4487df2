//! The commands, one file each.

pub mod train;
pub mod score;
pub mod generate;
