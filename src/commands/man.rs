//! The command `man`: the manual's pages, for packages, which are made from a built program.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::{Arg, Command};

use super::{CommandError, Invocation, Subcommand};

/// The command.
pub const COMMAND: Subcommand = Subcommand { name: "man", settings: &[], define, run };

fn define(command: Command) -> Command {
    command
        .about("Write the manual's pages into a directory")
        .hide(true)
        .arg(Arg::new("directory").value_name("DIRECTORY").required(true))
        .after_long_help("Example:\n  rsolv-exporter man target/man")
}

fn run(invocation: &Invocation) -> Result<ExitCode, CommandError> {
    let directory = invocation.text("directory").unwrap_or_default();
    write(Path::new(directory), invocation.program.clone())
        .map_err(|e| CommandError::failed(format!("{directory}: {e}")))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a page for the program and each command into `directory`, which it makes.
fn write(directory: &Path, program: Command) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(program.disable_help_subcommand(true), directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_every_command() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), crate::cli::command()).unwrap();
        for command in crate::cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let page = folder.path().join(format!("rsolv-exporter-{}.1", command.get_name()));
            let text = std::fs::read_to_string(page).unwrap();
            assert!(text.contains(".SH SYNOPSIS"), "{}", command.get_name());
        }
        let main = std::fs::read_to_string(folder.path().join("rsolv-exporter.1")).unwrap();
        assert!(main.contains("poll.interval"), "{main}");
    }
}
