//! The command `serve`: the poll loop and the web side, from start to drain.

use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::Settings;
use crate::metrics::Metrics;
use crate::notify;
use crate::poll::Poller;
use crate::published::Published;
use crate::source::Source;
use crate::web::{self, Gate, Site};

/// Polls and serves until `stop` changes. Fails only if it cannot listen.
pub async fn run(settings: &Settings, sources: Vec<Source>, gate: Gate, stop: watch::Receiver<bool>) -> io::Result<()> {
    let address = settings.web.listen_address;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| io::Error::new(e.kind(), format!("cannot listen on {address} (web.listen_address): {e}")))?;
    tracing::info!(address = %listener.local_addr()?, path = settings.web.telemetry_path, "listening");
    if settings.state_file.is_none() {
        tracing::warn!(
            "state.file is not set: a restart recounts the tables, and after rows were deleted Prometheus takes that for new events"
        );
    }
    for warning in sources.iter().flat_map(Source::warnings) {
        tracing::warn!("{warning}");
    }
    let published = Arc::new(Published::default());
    let metrics = Metrics::new(&sources);
    let gate = Arc::new(gate);
    let watching = tokio::spawn(gate.clone().watch(metrics.clone(), stop.clone()));
    let site = Site {
        published: published.clone(),
        metrics: metrics.clone(),
        telemetry_path: settings.web.telemetry_path.clone(),
        sources: sources.clone(),
        settings: settings.shown.clone(),
        show_details: settings.web.show_details,
        gate,
    };
    let mut poller = Poller::new(settings, sources, metrics.clone(), published);
    if let Some(path) = &settings.state_file {
        metrics.keeps_state();
        poller.keep_state(path)?;
    }
    let polling = tokio::spawn(poller.run(stop.clone()));
    notify::send("READY=1");
    web::run(listener, Arc::new(site), stop).await;
    notify::send("STOPPING=1");
    // A panic in there has been logged; there is nothing left to do but to end.
    let _ = tokio::join!(polling, watching);
    tracing::info!("stopped");
    Ok(())
}

/// Becomes true at SIGTERM or SIGINT.
pub fn stop_signal() -> io::Result<watch::Receiver<bool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        // When nobody listens any more, all has stopped already.
        let _ = sender.send(true);
    });
    Ok(receiver)
}
