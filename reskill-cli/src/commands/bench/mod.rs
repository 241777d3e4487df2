//! `reskill-cli bench`: measurements, one file each.

pub mod grpo;
mod replay;
mod trace;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Measures parts of the program on this machine.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    Grpo(grpo::GrpoArgs),
}

/// Runs the command; the result is the exit code.
///
/// # Errors
/// One line for the person who typed the command.
pub fn run(args: &BenchArgs) -> Result<u8> {
    match &args.bench {
        Bench::Grpo(args) => grpo::run(args),
    }
}
