//! What is made from the command line for others: completion scripts and the manual's pages.

use std::io;
use std::path::Path;

use clap_complete::aot::{Shell, generate};

use super::command;

/// Writes the completion script of `shell`: bash, zsh or fish.
///
/// # Errors
/// Fails if `shell` is another one.
pub fn completion(shell: &str, out: &mut impl io::Write) -> Result<(), String> {
    let shell: Shell = shell.parse()?;
    generate(shell, &mut command(), "rsolv-exporter", out);
    Ok(())
}

/// Writes a page for the program and each command into `directory`, which it makes.
///
/// # Errors
/// Fails if they cannot be written.
pub fn man(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(command().disable_help_subcommand(true), directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_is_told_of_commands_and_flags() {
        for shell in ["bash", "zsh", "fish"] {
            let mut script = Vec::new();
            completion(shell, &mut script).unwrap();
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("healthcheck") && script.contains("poll.interval"), "{shell}");
        }
    }

    #[test]
    fn there_is_a_page_for_every_command() {
        let folder = tempfile::tempdir().unwrap();
        man(folder.path()).unwrap();
        let commands = command();
        for command in commands.get_subcommands().filter(|command| !command.is_hide_set()) {
            let page = folder.path().join(format!("rsolv-exporter-{}.1", command.get_name()));
            let text = std::fs::read_to_string(page).unwrap();
            assert!(text.contains(".SH SYNOPSIS"), "{}", command.get_name());
        }
        let main = std::fs::read_to_string(folder.path().join("rsolv-exporter.1")).unwrap();
        assert!(main.contains("poll.interval"), "{main}");
    }
}
