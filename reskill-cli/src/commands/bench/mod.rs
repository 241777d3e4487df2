//! `reskill-cli bench`: measurements, as a table for people or JSON lines.

mod env;
mod report;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Measures speed and memory on this machine
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    Env(env::EnvBenchArgs),
}

/// Runs the command; the result is the exit code.
///
/// # Errors
/// One line for the person who typed the command.
pub fn run(args: &BenchArgs) -> Result<u8> {
    match &args.command {
        BenchCommand::Env(args) => env::run(args),
    }
}
