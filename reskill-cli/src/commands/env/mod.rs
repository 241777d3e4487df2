//! `reskill-cli env`: looks into an environment without a policy.

mod games;
mod list;
mod play;
mod replay;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Lists, plays and replays the games of an environment
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  reskill-cli env list --env alfworld --data DIR --split valid_unseen --type pick_two_obj_and_place
  reskill-cli env play --env household
  reskill-cli env play --env scienceworld --data DIR --game power-component/0
  reskill-cli env play --env sql --data DIR --game 0
  reskill-cli env play --env wands --game 3-opt/0/0
  reskill-cli env list --env-cmd 'python3 my_env.py'
  reskill-cli env play --env alfworld --data DIR --game valid_seen/TASK/TRIAL
  echo '[\"look\"]' | reskill-cli env replay --env alfworld --data game.tw-pddl --actions -

Exit codes: 0 done, 2 an error: one line says what and what to do.")]
pub struct EnvArgs {
    #[command(subcommand)]
    command: EnvCommand,
}

#[derive(Debug, Subcommand)]
enum EnvCommand {
    List(list::ListArgs),
    Play(play::PlayArgs),
    Replay(replay::ReplayArgs),
}

/// Runs the command; the result is the exit code.
///
/// # Errors
/// One line for the person who typed the command.
pub fn run(args: &EnvArgs) -> Result<u8> {
    match &args.command {
        EnvCommand::List(args) => list::run(args),
        EnvCommand::Play(args) => play::run(args),
        EnvCommand::Replay(args) => replay::run(args),
    }
}
