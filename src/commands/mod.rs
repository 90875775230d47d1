//! The commands, one file or folder each: its arguments, its help, and what it does.

pub mod arguments;
pub mod backfill;
pub mod backward_scan;
pub mod buckets;
pub mod check;
pub mod completion;
pub mod config;
pub mod error;
pub mod healthcheck;
pub mod init;
pub mod invocation;
pub mod man;
pub mod once;
pub mod output;
pub mod reconcile;
pub mod rows;
pub mod selector;
pub mod serve;
pub mod sql;
pub mod text_table;
pub mod unit;

use std::process::ExitCode;

pub use error::CommandError;
pub use invocation::Invocation;

/// Exit status of a command that could not do its work.
const FAILED: u8 = 1;

/// Every command, in the order of the help; without a command, the first one runs.
pub const ALL: [Subcommand; 12] = [
    serve::COMMAND,
    check::COMMAND,
    once::COMMAND,
    sql::COMMAND,
    rows::COMMAND,
    buckets::COMMAND,
    backfill::COMMAND,
    init::COMMAND,
    healthcheck::COMMAND,
    config::COMMAND,
    completion::COMMAND,
    man::COMMAND,
];

/// A command.
#[derive(Clone, Copy, Debug)]
pub struct Subcommand {
    /// What the user types.
    pub name: &'static str,
    /// How the keys of settings begin that matter to it; the help shows no others.
    pub settings: &'static [&'static str],
    /// Gives the empty command of this name its help and arguments.
    pub define: fn(clap::Command) -> clap::Command,
    /// Does it.
    pub run: fn(&Invocation) -> Result<ExitCode, CommandError>,
}

/// Runs a command to its end on a runtime of its own.
///
/// # Errors
/// Fails if the command does, or if no threads can be started.
fn block_on(work: impl Future<Output = Result<ExitCode, CommandError>>) -> Result<ExitCode, CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| CommandError::failed(format!("cannot start: {e}")))?;
    let result = runtime.block_on(work);
    // What hangs on a disk or a name server would hold up the end for as long.
    runtime.shutdown_background();
    result
}
