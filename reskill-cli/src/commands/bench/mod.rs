//! `reskill-cli bench`: measurements, one file each.

mod by_expert;
mod compare;
pub mod cpu;
mod env;
mod figures;
pub mod grpo;
mod kernels;
mod model;
mod options;
mod replay;
mod retrieval;
mod report;
mod room;
mod scienceworld;
mod trace;
mod weights;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Measures parts of the program on this machine.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  reskill-cli bench kernels --sizes smollm2
  reskill-cli bench kernels --device cuda --dtype bf16 --json >after.jsonl
  reskill-cli bench compare before.jsonl after.jsonl
  reskill-cli bench env --data DIR
  reskill-cli bench cpu --model DIR

Exit codes: 0 done, 1 an operation is not what f64 says (kernels), 2 an error.")]
pub struct BenchArgs {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    Compare(compare::CompareArgs),
    Cpu(cpu::CpuArgs),
    Env(env::EnvBenchArgs),
    Grpo(grpo::GrpoArgs),
    Ceilings(kernels::CeilingArgs),
    Kernels(kernels::KernelArgs),
    Prefill(model::PrefillArgs),
    Decode(model::DecodeArgs),
    Train(model::TrainArgs),
}

/// Runs the command; the result is the exit code.
///
/// # Errors
/// One line for the person who typed the command.
pub fn run(args: &BenchArgs) -> Result<u8> {
    match &args.bench {
        Bench::Compare(args) => compare::run(args),
        Bench::Cpu(args) => cpu::run(args),
        Bench::Env(args) => env::run(args),
        Bench::Grpo(args) => grpo::run(args),
        Bench::Ceilings(args) => kernels::run_ceilings(args),
        Bench::Kernels(args) => kernels::run(args),
        Bench::Prefill(args) => model::prefill(args),
        Bench::Decode(args) => model::decode(args),
        Bench::Train(args) => model::train(args),
    }
}

/// Prints one line of results.
fn print_json(line: &serde_json::Value) {
    #[expect(clippy::print_stdout, reason = "results of a measurement are data")]
    {
        println!("{line}");
    }
}
