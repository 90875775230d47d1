//! A state file, and exporters that keep it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rsolv_exporter::config::{Settings, load};
use rsolv_exporter::poll::Poller;
use rsolv_exporter::snapshot::SnapshotStore;
use rsolv_exporter::source::Source;
use rsolv_exporter::telemetry::self_metrics::Metrics;

use super::database::Database;
use super::exporter::Exporter;
use super::scratch::Scratch;

/// Births are not the subject here: a new series is shown at the first poll after a scrape.
pub const FLAGS: [&str; 4] = ["--poll.interval", "100ms", "--series.birth-hold", "0s"];

/// Where an exporter keeps its state.
pub struct State {
    _scratch: Scratch,
    pub path: PathBuf,
}

impl State {
    /// One that is not there yet.
    pub fn new() -> Self {
        let scratch = Scratch::new("state", &std::env::temp_dir(), None).unwrap();
        let path = scratch.path().join("state");
        Self { _scratch: scratch, path }
    }

    /// An exporter that says itself where it listens.
    pub async fn exporter_listening(&self, database: &Database<'_>, more: &[&str]) -> Exporter {
        let own = ["--database.url", &database.url(), "--state.file", self.path.to_str().unwrap()];
        Exporter::launch(&[&FLAGS[..2], &own, more].concat(), &[]).await.unwrap()
    }

    /// An exporter that keeps its state here.
    pub async fn exporter(&self, database: &Database<'_>, more: &[&str]) -> Exporter {
        let state = ["--state.file", self.path.to_str().unwrap()];
        // A later flag is not allowed to repeat an earlier one.
        let flags = FLAGS.chunks(2).filter(|flag| !more.contains(&flag[0])).flatten().copied();
        let flags: Vec<&str> = flags.chain(state).chain(more.iter().copied()).collect();
        Exporter::start(&database.url(), &flags).await
    }
}

/// Polls the database at `url` once, so that the state file at `path` has what is there now.
pub async fn save_state(url: &str, path: &Path, more: &[(&str, &str)]) {
    let flags = [("database.url", url)].iter().chain(more).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let settings = Settings::check(&load(None, BTreeMap::new(), flags).unwrap()).unwrap();
    let sources = Source::shipped().unwrap();
    let metrics = Metrics::new(&sources);
    let mut poller = Poller::new(&settings, sources, metrics, Arc::new(SnapshotStore::default()));
    poller.keep_state(path).unwrap();
    poller.poll().await.unwrap();
}
