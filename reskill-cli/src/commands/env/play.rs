//! `reskill-cli env play`: a game in a terminal.

use std::fmt::Write;
use std::io::{BufRead, IsTerminal};

use anyhow::{Context, Result};
use clap::Args;
use reskill_envs::{Observation, TextEnv};

use super::games::{Source, find};
use crate::progress::print_data;

/// Plays a game in the terminal
#[derive(Debug, Args)]
#[command(after_help = "Type a command or its number; :hint shows the expert's next command, :q leaves.

Examples:
  reskill-cli env play --env household
  reskill-cli env play --env alfworld --data DIR --game valid_seen/TASK/TRIAL")]
pub(super) struct PlayArgs {
    #[command(flatten)]
    source: Source,
    /// Id of the game, split/task/trial; not needed where there is one
    #[arg(long, value_name = "ID")]
    game: Option<String>,
}

pub(super) fn run(args: &PlayArgs) -> Result<u8> {
    let suite = args.source.open()?;
    let task = find(suite.as_ref(), args.game.as_deref())?;
    let mut env = suite.open(&task.id)?;
    let now = env.reset()?;
    print_data(format!("{}\n\n", task.id).as_bytes())?;
    converse(env.as_mut(), now, &mut std::io::stdin().lock())?;
    Ok(0)
}

/// Reads commands until the game is won, the input ends, or the player leaves.
fn converse(env: &mut dyn TextEnv, mut now: Observation, input: &mut dyn BufRead) -> Result<()> {
    let mut show = true;
    let mut n_steps = 0;
    loop {
        let mut page = String::new();
        if show {
            writeln!(page, "{}\n", now.text)?;
            for (command, number) in now.admissible.iter().zip(1..) {
                writeln!(page, "{number:>4}  {command}")?;
            }
        }
        page.push_str("> ");
        let mut line = String::new();
        if !print_data(page.as_bytes())?
            || input.read_line(&mut line).context("standard input cannot be read")? == 0
        {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            print_data(&[line.trim_end().as_bytes(), b"\n"].concat())?;
        }
        show = false;
        let said = line.trim();
        match said {
            ":q" => return Ok(()),
            ":hint" => {
                let hint = match env.expert() {
                    Ok(plan) => plan.first().cloned().unwrap_or_else(|| "nothing is left to do".into()),
                    Err(error) => error.to_string(),
                };
                print_data(format!("{hint}\n").as_bytes())?;
                continue;
            }
            _ => {}
        }
        let numbered =
            said.parse::<usize>().ok().and_then(|number| now.admissible.get(number.checked_sub(1)?));
        let action = numbered.cloned().unwrap_or_else(|| said.to_owned());
        let step = env.step(&action)?;
        n_steps += 1;
        now = step.observation;
        show = true;
        if step.won || step.done {
            let end = if step.won { "won with" } else { "over after" };
            print_data(format!("{}\n\n{end} {n_steps} commands\n", now.text).as_bytes())?;
            return Ok(());
        }
    }
}
