//! The command `init`: a first definition for a table, from what the catalog and the newest rows tell.

mod draft;
mod table;
mod words;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, Command};

use super::{CommandError, Invocation, Subcommand, block_on, output};
use crate::config::Settings;
use crate::postgres::Failure;
use draft::Draft;
use table::Table;

/// Why there is no definition.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The database did not answer.
    #[error(transparent)]
    Database(#[from] Failure),
    /// There is no such table.
    #[error("{0}")]
    Unknown(String),
    /// A file could not be written.
    #[error("{path}: {error}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

/// The command.
pub const COMMAND: Subcommand = Subcommand { name: "init", settings: &[], define, run };

fn define(command: Command) -> Command {
    command
        .about("Write a first definition for a table, from its columns and newest rows")
        .arg(Arg::new("table").value_name("TABLE").required(true).help("The table, if need be as SCHEMA.TABLE"))
        .after_long_help(
            "\
It writes TABLE.sql and TABLE.toml into queries.dir, else into the current
directory, and prints the GRANT for the role. It reads the catalog, and of the
newest 10000 rows what the role may see: which columns have few values, and how
numbers are distributed. Nothing that is there is overwritten.

Example:
  rsolv-exporter init jobs --queries.dir queries
  rsolv-exporter check --queries.dir queries",
        )
}

fn run(invocation: &Invocation) -> Result<ExitCode, CommandError> {
    // There need not be any definition yet.
    let settings = invocation.settings()?;
    let table = invocation.text("table").unwrap_or_default();
    block_on(async {
        output::print(&write(&settings, table).await.map_err(CommandError::failed)?);
        Ok(ExitCode::SUCCESS)
    })
}

/// Writes `NAME.sql` and `NAME.toml` for a table into `queries.dir`, else into the current directory; what is to be done
/// then, as text.
///
/// # Errors
/// Fails if there is no such table, or if a file is there already.
async fn write(settings: &Settings, table: &str) -> Result<String, InitError> {
    let session = settings.target.connect().await?;
    session.begin().await?;
    let mut table = Table::read(&session, table).await?;
    let span = draft::span(&table).filter(|(start, end)| start.is_readable && end.is_readable);
    if let Some(seconds) = span.map(|(start, end)| draft::duration(start, end)) {
        table.measure(&session, &seconds).await?;
    }
    session.end().await?;
    let draft = Draft::of(&table);
    let folder = settings.queries_dir.as_deref().unwrap_or(Path::new("."));
    let files = [("sql", &draft.sql), ("toml", &draft.toml)].map(|(extension, text)| {
        let path = folder.join(format!("{}.{extension}", draft.name));
        (path, text)
    });
    if let Some((path, _)) = files.iter().find(|(path, _)| path.exists()) {
        let error = io::Error::new(io::ErrorKind::AlreadyExists, "is there already: move it away, or edit it");
        return Err(InitError::Write { path: path.clone(), error });
    }
    for (path, text) in &files {
        let written = OpenOptions::new().write(true).create_new(true).open(path);
        written
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| InitError::Write { path: path.clone(), error })?;
    }
    let mut said = format!("wrote {} and {}\n", files[0].0.display(), files[1].0.display());
    for note in &draft.notes {
        said.push_str(&format!("note: {note}\n"));
    }
    said.push_str(&format!("\nWhat the exporter's role needs:\n\n{}\n", draft.grants.join("\n")));
    said.push_str(&format!(
        "\nLook through both files, then see what they give:\n\n  rsolv-exporter check --queries.dir {0}\n  \
         rsolv-exporter once --queries.dir {0}\n",
        folder.display()
    ));
    Ok(said)
}
