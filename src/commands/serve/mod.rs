//! The command `serve`: the poll loop and the web side, from start to drain.

mod orphans;

use std::io::{self, ErrorKind};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Command;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::{CommandError, Invocation, Subcommand, block_on, invocation};
use crate::config::{Settings, Web};
use crate::poll::Poller;
use crate::snapshot::SnapshotStore;
use crate::source::Source;
use crate::telemetry::build_info;
use crate::telemetry::self_metrics::Metrics;
use crate::telemetry::systemd;
use crate::web::listen;
use crate::web::{self, AccessControl, AppState};

/// The process ends within this time of the signal to stop: longer than responses may take to drain.
const GRACE: Duration = Duration::from_secs(8);

/// The command.
pub const COMMAND: Subcommand = Subcommand { name: "serve", settings: &[""], define, run };

fn define(command: Command) -> Command {
    command.about("Poll and serve metrics until told to stop (the default)").after_long_help(
        "\
Examples:
  rsolv-exporter serve --database.url postgres://rsolv_exporter@localhost/rsolv \\
    --state.file /var/lib/rsolv-exporter/state",
    )
}

fn run(invocation: &Invocation) -> Result<ExitCode, CommandError> {
    let (settings, sources) = (invocation.settings()?, invocation.sources()?);
    let access = AccessControl::open(settings.web.config_file.clone()).map_err(CommandError::invalid_web_config)?;
    invocation::start_log(&settings);
    block_on(async {
        let stop = stop_signal().map_err(|e| CommandError::failed(format!("cannot wait for signals: {e}")))?;
        match serve(&settings, sources, access, stop).await {
            Ok(()) => Ok(ExitCode::SUCCESS),
            // Neither a file of another user nor a low port comes right by trying again.
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                Err(CommandError::invalid_settings(vec![e.to_string()]))
            }
            Err(e) => Err(CommandError::failed(e)),
        }
    })
}

/// Polls and serves until `stop` changes.
///
/// # Errors
/// Fails if it cannot listen, cannot take `state.file` for itself, or cannot wait for signals.
async fn serve(
    settings: &Settings,
    sources: Vec<Source>,
    access: AccessControl,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let set = settings.shown.iter().filter(|(_, _, origin)| !origin.is_empty());
    let set = set.map(|(key, _, origin)| format!("{key} ({origin})")).collect::<Vec<_>>().join(", ");
    tracing::info!(version = build_info::VERSION, revision = build_info::REVISION, settings = set, "starting");
    let listeners = listeners(&settings.web).await?;
    for listener in &listeners {
        tracing::info!(address = %listener.local_addr()?, path = settings.web.telemetry_path, "listening");
    }
    if settings.state_file.is_none() {
        tracing::warn!(
            "state.file is not set: a restart recounts the tables, and after rows were deleted Prometheus takes that for new events"
        );
    }
    for warning in sources.iter().flat_map(Source::warnings) {
        tracing::warn!("{warning}");
    }
    for note in settings.target.notes() {
        tracing::info!("database.url: {note}");
    }
    let hangup = signal(SignalKind::hangup())?;
    let published = Arc::new(SnapshotStore::default());
    let metrics = Metrics::new(&sources);
    metrics.serves_web();
    let access = Arc::new(access);
    let watching = tokio::spawn(access.clone().watch(metrics.clone(), stop.clone()));
    let reloading = tokio::spawn(reload_on(hangup, access.clone(), stop.clone()));
    let site = AppState {
        published: published.clone(),
        metrics: metrics.clone(),
        telemetry_path: settings.web.telemetry_path.clone(),
        sources: sources.clone(),
        user: settings.target.user().to_owned(),
        settings: settings.shown.clone(),
        show_details: settings.web.show_details,
        access,
    };
    let mut poller = Poller::new(settings, sources, metrics.clone(), published);
    if let Some(path) = &settings.state_file {
        metrics.keeps_state();
        poller.keep_state(path)?;
    }
    let polling = tokio::spawn(poller.run(stop.clone()));
    let reaping = tokio::spawn(orphans::reap(stop.clone()));
    systemd::send("READY=1");
    web::run(listeners, Arc::new(site), stop).await;
    systemd::send("STOPPING=1");
    // A panic in there has been logged; there is nothing left to do but to end.
    let _ = tokio::join!(polling, watching, reloading, reaping);
    tracing::info!("stopped");
    Ok(())
}

async fn listeners(web: &Web) -> io::Result<Vec<TcpListener>> {
    if web.systemd_socket {
        return listen::passed().map_err(|e| io::Error::new(e.kind(), format!("web.systemd_socket: {e}")));
    }
    let mut listeners = Vec::new();
    for address in &web.listen_addresses {
        let bound = listen::bind(address).await;
        let named =
            |e: io::Error| io::Error::new(e.kind(), format!("cannot listen on {address} (web.listen_address): {e}"));
        listeners.extend(bound.map_err(named)?);
    }
    Ok(listeners)
}

/// Reads again what can be at each SIGHUP, until `stop` changes.
async fn reload_on(mut hangup: Signal, access: Arc<AccessControl>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = hangup.recv() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        match access.reload() {
            true => tracing::info!(
                "SIGHUP: reading the web configuration and its certificates again; the rest changes by restart"
            ),
            false => tracing::info!(
                "SIGHUP: there is no web.config_file to read again; settings and definitions change by restart"
            ),
        }
    }
}

/// Becomes true at SIGTERM or SIGINT.
fn stop_signal() -> io::Result<watch::Receiver<bool>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        // Whatever hangs: the end is not waited for longer than this.
        let end = || {
            std::thread::sleep(GRACE);
            tracing::error!("something did not end in time; the process ends without it");
            std::process::exit(1);
        };
        // Without a thread for it the service manager will lose its patience instead.
        let _ = std::thread::Builder::new().spawn(end);
        // When nobody listens any more, all has stopped already.
        let _ = sender.send(true);
    });
    Ok(receiver)
}
