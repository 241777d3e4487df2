//! The command line of ReSkill.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use reskill_cli::commands::{
    adapt, bench, completions, config, doctor, env, eval, generate, index, score, sft, skills, train,
};
use reskill_cli::progress::print_line;
use reskill_cli::remedy::remedy;
use tracing_subscriber::EnvFilter;

/// Trains language-model agents whose skills evolve with the policy.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Examples:
  reskill-cli train                         the default run, on the CPU, in minutes
  reskill-cli eval runs/NAME                what it learned, with its skills and without
  reskill-cli doctor                        what this machine has, and how to get what is missing
  reskill-cli COMMAND --help                more of each, with examples

Exit codes: 0 done; 1 a check found something; 2 an error, which one line names with what to do; 130 interrupted by Ctrl-C
after a checkpoint. RESKILL_LOG=info|debug|trace logs to standard error."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(train::TrainArgs),
    Sft(sft::SftArgs),
    Adapt(adapt::AdaptArgs),
    Eval(eval::EvalArgs),
    Config(config::ConfigArgs),
    Generate(generate::GenerateArgs),
    Score(score::ScoreArgs),
    Skills(skills::SkillsArgs),
    Env(env::EnvArgs),
    Index(index::IndexArgs),
    Bench(bench::BenchArgs),
    Doctor(doctor::DoctorArgs),
    Completions(completions::CompletionsArgs),
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("RESKILL_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let Cli { command } = Cli::parse();
    let result = match &command {
        Command::Train(args) => train::run(args),
        Command::Sft(args) => sft::run(args),
        Command::Config(args) => config::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Skills(args) => skills::run(args),
        Command::Score(args) => score::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Env(args) => env::run(args),
        Command::Index(args) => index::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Adapt(args) => adapt::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Completions(args) => completions::run(args, &mut Cli::command()),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let remedy = remedy(&error).map_or(String::new(), |remedy| format!("; {remedy}"));
            print_line(&format!("error: {error:#}{remedy}"));
            ExitCode::from(2)
        }
    }
}
