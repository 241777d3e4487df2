//! `reskill-cli completions`: what a shell needs to complete command lines.

use anyhow::Result;
use clap::Args;
use clap_complete::Shell;

use crate::progress::print_data;

/// Prints the completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  reskill-cli completions bash > ~/.local/share/bash-completion/completions/reskill-cli
  reskill-cli completions zsh > ~/.zfunc/_reskill-cli          with fpath+=~/.zfunc before compinit in ~/.zshrc
  reskill-cli completions fish > ~/.config/fish/completions/reskill-cli.fish

Exit codes: 0 done, 2 an error.")]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Prints the completions of `program`; the result is the exit code.
///
/// # Errors
/// If they cannot be written.
pub fn run(args: &CompletionsArgs, program: &mut clap::Command) -> Result<u8> {
    let name = program.get_name().to_string();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, program, name, &mut script);
    print_data(&script)?;
    Ok(0)
}
