//! The command `once`: one poll, the exposition as a string.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Command;

use super::{CommandError, Invocation, Subcommand, block_on, output};
use crate::config::Settings;
use crate::exposition::{Format, own};
use crate::poll::Poller;
use crate::postgres::Failure;
use crate::snapshot::SnapshotStore;
use crate::source::Source;
use crate::telemetry::self_metrics::Metrics;

/// The command.
pub const COMMAND: Subcommand =
    Subcommand { name: "once", settings: &["database.", "queries.", "series.limit", "log."], define, run };

fn define(command: Command) -> Command {
    command.about("Poll once and print the metrics").after_long_help(
        "\
It counts from the tables, whatever the state file has.

Examples:
  rsolv-exporter once | grep executions_total
  rsolv-exporter once | promtool check metrics",
    )
}

fn run(invocation: &Invocation) -> Result<ExitCode, CommandError> {
    let (settings, sources) = invocation.prepare()?;
    block_on(async {
        let failed = |failures: Vec<Failure>| {
            CommandError::failed(failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        };
        let (text, failures) = poll(&settings, sources).await.map_err(failed)?;
        output::print(&text);
        if failures.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(failed(failures)) }
    })
}

/// Polls once and returns the exposition in text format, with the failures of sources that could not be read.
///
/// # Errors
/// Fails if no source could be read.
async fn poll(settings: &Settings, sources: Vec<Source>) -> Result<(String, Vec<Failure>), Vec<Failure>> {
    if settings.state_file.is_some() {
        tracing::warn!("once counts what the tables hold: state.file is neither read nor written");
    }
    let published = Arc::new(SnapshotStore::default());
    let metrics = Metrics::new(&sources);
    let mut poller = Poller::new(settings, sources, metrics.clone(), published.clone()).leave_failures();
    let failure = poller.poll().await.err();
    let failures: Vec<Failure> = match published.history().sources.values().map(|t| t.failure.clone()).collect() {
        // It was not one source that failed.
        sources if Vec::is_empty(&sources) => failure.into_iter().collect(),
        sources => sources,
    };
    let pages = published.newest().fresh();
    if pages.is_empty() && !failures.is_empty() {
        return Err(failures);
    }
    let mut text: String =
        pages.iter().map(|page| String::from_utf8_lossy(&page.render(Format::Text, 0)).into_owned()).collect();
    let mut encoder = Format::Text.encoder(false, 0);
    own::encode(encoder.as_mut(), &metrics.gather());
    text.push_str(&String::from_utf8_lossy(&encoder.finish()));
    Ok((text, failures))
}
