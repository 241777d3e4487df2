//! `reskill-cli skills`: look at banks and histories, check libraries, take skills in and out.

mod source;
mod list;
mod show;
mod diff;
mod history;
mod audit;
mod validate;
mod export;
mod import;

pub(super) use self::source::{bank, print_json};

use anyhow::Result;
use clap::{Args, Subcommand};

/// Exit code of a check that found something.
pub const FOUND: u8 = 1;

/// Looks at the skills of a run or a folder, checks them, takes them in and out.
#[derive(Debug, Args)]
#[command(after_help = "A SOURCE is a run directory or a folder of Agent Skills.

Examples:
  reskill-cli skills list runs/one
  reskill-cli skills show runs/one open-after-go-to
  reskill-cli skills diff runs/one runs/two
  reskill-cli skills history runs/one --kind accepted
  reskill-cli skills audit runs/one
  reskill-cli skills validate my-skills
  reskill-cli skills export runs/one library
  reskill-cli skills import their-skills my-skills --rename

Exit codes: 0 done, 1 a check found something (validate; diff with --exit-code), 2 an error.")]
pub struct SkillsArgs {
    #[command(subcommand)]
    command: SkillsCommand,
}

#[derive(Debug, Subcommand)]
enum SkillsCommand {
    List(list::ListArgs),
    Show(show::ShowArgs),
    Diff(diff::DiffArgs),
    History(history::HistoryArgs),
    Audit(audit::AuditArgs),
    Validate(validate::ValidateArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
}

/// Runs the command; the result is the exit code.
///
/// # Errors
/// One line for the person who typed the command.
pub fn run(args: &SkillsArgs) -> Result<u8> {
    match &args.command {
        SkillsCommand::List(args) => list::run(args),
        SkillsCommand::Show(args) => show::run(args),
        SkillsCommand::Diff(args) => diff::run(args),
        SkillsCommand::History(args) => history::run(args),
        SkillsCommand::Audit(args) => audit::run(args),
        SkillsCommand::Validate(args) => validate::run(args),
        SkillsCommand::Export(args) => export::run(args),
        SkillsCommand::Import(args) => import::run(args),
    }
}
