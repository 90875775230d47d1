//! The command `completion`: what makes a shell complete commands and flags.

use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command};
use clap_complete::aot::{Shell, generate};

use super::{CommandError, Invocation, Subcommand, output};

/// The command.
pub const COMMAND: Subcommand = Subcommand { name: "completion", settings: &[], define, run };

fn define(command: Command) -> Command {
    command
        .about("Print what makes a shell complete commands and flags")
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(PossibleValuesParser::new(["bash", "zsh", "fish"]))
                .help("The shell"),
        )
        .after_long_help(
            "\
The Debian package has installed it. Elsewhere, for one user:

Examples:
  rsolv-exporter completion bash > \\
    ~/.local/share/bash-completion/completions/rsolv-exporter
  rsolv-exporter completion fish > \\
    ~/.config/fish/completions/rsolv-exporter.fish
  with ~/.zfunc in $fpath:
  rsolv-exporter completion zsh > ~/.zfunc/_rsolv-exporter",
        )
}

fn run(invocation: &Invocation) -> Result<ExitCode, CommandError> {
    let shell: Shell =
        invocation.text("shell").unwrap_or_default().parse().map_err(|e: String| CommandError::failed(e))?;
    output::print(&script(shell, invocation.program.clone()));
    Ok(ExitCode::SUCCESS)
}

/// The completion script of a shell.
fn script(shell: Shell, mut program: Command) -> String {
    let mut script = Vec::new();
    generate(shell, &mut program, "rsolv-exporter", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_is_told_of_commands_and_flags() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell, crate::cli::command());
            assert!(script.contains("healthcheck") && script.contains("poll.interval"), "{shell}");
        }
    }
}
