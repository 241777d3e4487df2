//! The command line of ReSkill.

use std::process::ExitCode;

use clap::{ArgAction, CommandFactory, Parser, Subcommand};
use reskill_cli::commands::{
    adapt, bench, completions, config, doctor, env, eval, export, generate, index, report, score, sft,
    skills, study, train,
};
use reskill_cli::logging::start_logging;
use reskill_cli::output::print_error;
use reskill_cli::remedy::remedy;

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
after a checkpoint. RESKILL_LOG takes a filter of what is logged to standard error, as -v does."
)]
struct Cli {
    /// Prints errors only, no progress; data on standard output stays
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Output")]
    quiet: bool,
    /// Logs what happens and how long each stage took; -vv more, -vvv all. RESKILL_LOG sets a filter instead
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Output")]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(train::TrainArgs),
    Sft(sft::SftArgs),
    Adapt(adapt::AdaptArgs),
    Eval(eval::EvalArgs),
    Report(report::ReportArgs),
    Export(export::ExportArgs),
    Study(study::StudyArgs),
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
    let Cli { quiet, verbose, command } = Cli::parse();
    start_logging(quiet, verbose);
    let result = match &command {
        Command::Train(args) => train::run(args),
        Command::Sft(args) => sft::run(args),
        Command::Config(args) => config::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Report(args) => report::run(args),
        Command::Export(args) => export::run(args),
        Command::Study(args) => study::run(args),
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
            print_error(&format!("error: {error:#}{remedy}"));
            ExitCode::from(2)
        }
    }
}
