//! The command line of ReSkill.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use reskill_cli::commands::{bench, env, generate, index, score, sft, skills, train};
use reskill_cli::progress::print_line;
use tracing_subscriber::EnvFilter;

/// Trains language-model agents whose skills evolve with the policy.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(train::TrainArgs),
    Sft(sft::SftArgs),
    Generate(generate::GenerateArgs),
    Score(score::ScoreArgs),
    Skills(skills::SkillsArgs),
    Env(env::EnvArgs),
    Index(index::IndexArgs),
    Bench(bench::BenchArgs),
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("RESKILL_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let Cli { command } = Cli::parse();
    let result = match &command {
        Command::Train(args) => train::run(args),
        Command::Sft(args) => sft::run(args),
        Command::Skills(args) => skills::run(args),
        Command::Score(args) => score::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Env(args) => env::run(args),
        Command::Index(args) => index::run(args),
        Command::Bench(args) => bench::run(args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            print_line(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}
