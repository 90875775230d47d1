//! The command `config`: every setting with its value and where that comes from.

use std::process::ExitCode;

use clap::Command;

use super::text_table::{Column, table};
use super::{CommandError, Invocation, Subcommand, output};
use crate::config::{KEYS, Key, Settings};

/// The command.
pub const COMMAND: Subcommand = Subcommand { name: "config", settings: &[""], define, run };

fn define(command: Command) -> Command {
    command.about("Print the settings in force and where each comes from").after_long_help(
        "\
No password is shown, and the database is not asked.

Examples:
  rsolv-exporter config
  rsolv-exporter config --config.file /etc/rsolv-exporter/rsolv-exporter.toml",
    )
}

fn run(invocation: &Invocation) -> Result<ExitCode, CommandError> {
    output::print(&settings(&invocation.settings()?));
    Ok(ExitCode::SUCCESS)
}

/// Every key with its value and where that comes from, as a table; no password.
fn settings(settings: &Settings) -> String {
    let row = |key: &Key| {
        let shown = settings.shown.iter().find(|(name, ..)| name == key.name);
        let (value, origin) = shown.map_or(("", "not set"), |(_, value, origin)| (value, origin));
        [key.name, value, if origin.is_empty() { "default" } else { origin }].map(str::to_owned).to_vec()
    };
    let columns = ["key", "value", "set by"].map(|name| Column { name: name.into(), right: false, cut: false });
    table(&columns, &KEYS.iter().map(row).collect::<Vec<_>>(), usize::MAX).0
}
