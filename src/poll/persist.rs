//! The state file as the poller uses it: taken up at the start, written before numbers are published.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::time::{Duration, Instant};

use super::Poller;
use crate::state::{self, LoadError, Resumed, Saved, Saver, State, StateFile};

/// The state file, and what was said about it.
#[derive(Debug)]
pub struct Keeper {
    saver: Saver,
    complained: bool,
}

impl Poller {
    /// Takes the state file at `path` for this process and goes on from what it holds.
    ///
    /// # Errors
    /// Fails if another process has it, its folder does not exist, or it cannot be read: it can hold what no table has
    /// any more, and saving would replace it. A file that is damaged is reported and kept as `.bad`, and totals are recounted.
    pub fn keep_state(&mut self, path: &Path) -> io::Result<()> {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("state.file {}: {e}", path.display()));
        let file = StateFile::lock(path).map_err(named)?;
        let loaded = match file.is_foreign() {
            true => Err(LoadError::Damaged("another user made it, in a folder that others can write to".to_owned())),
            false => state::load(file.path()),
        };
        match loaded {
            Ok(state) => self.resume(state),
            Err(LoadError::Absent) => tracing::info!(path = %path.display(), "there is no state yet: counting begins"),
            Err(LoadError::Unreadable(e)) => {
                // What root has put there is root's: the folder's owner is the user that the exporter runs as.
                let folder = file.path().parent().unwrap_or(path).display();
                let remedy = format!(
                    "let the exporter's user read it (chown --reference={folder} {}), \
                     or move it away to count anew from the tables",
                    file.path().display()
                );
                return Err(named(io::Error::new(e.kind(), format!("cannot be read: {e}: {remedy}"))));
            }
            Err(e) => {
                let aside = file.set_aside().map_err(|e| {
                    named(io::Error::new(e.kind(), format!("cannot be used, nor renamed to .bad: {e}: move it away")))
                })?;
                tracing::warn!(
                    path = %path.display(),
                    kept = %aside.display(),
                    "the state {e}; it is kept aside, totals are counted anew from the tables, and rows deleted from them are not in it"
                );
            }
        }
        self.keeper = Some(Keeper { saver: Saver::start(file).map_err(named)?, complained: false });
        Ok(())
    }

    fn resume(&mut self, mut state: State) {
        for tracked in &mut self.tracked {
            let name = &tracked.source.name;
            let Some(saved) = state.sources.remove(name) else {
                tracing::info!(source = name, "is not in the state: counting begins");
                continue;
            };
            let read_at = saved.published_at(&tracked.fingerprint);
            let ledger = match saved.resume(&tracked.source, tracked.ledger.shape().clone()) {
                Resumed::Whole(ledger) => {
                    tracing::info!(source = name, rows = ledger.rows(), "goes on from the state");
                    ledger
                }
                Resumed::Partly(ledger) => {
                    tracing::warn!(
                        source = name,
                        "its metrics changed: those that are unchanged go on, the others are counted from the rows that are there"
                    );
                    ledger
                }
                Resumed::Nothing(ledger) => {
                    tracing::warn!(source = name, "its SELECT or labels changed: counted anew from the table");
                    ledger
                }
            };
            (tracked.ledger, tracked.read_at) = (Arc::new(ledger), read_at);
        }
        for name in state.sources.keys() {
            tracing::warn!(source = name, "is in the state and no longer defined: what was counted is forgotten");
        }
        self.position = state.position;
        self.read_at = state.read_at;
        self.identity = state.identity;
        self.publish_resumed();
    }

    /// Publishes what the state holds, as of the time when it was read, until the database has been read. Metrics that
    /// are still to be counted from the tables wait for that.
    fn publish_resumed(&mut self) {
        let now = self.published.clock.seconds();
        for tracked in &mut self.tracked {
            // By another clock, which can be ahead.
            let age = Duration::try_from_secs_f64((now - tracked.read_at).max(0.0)).unwrap_or(Duration::MAX);
            if age < self.poll.stale_after
                && tracked.ledger.is_complete()
                && let Some(read_at) = Instant::now().checked_sub(age)
            {
                tracked.next_page(self.created, read_at, self.poll.stale_after);
                self.metrics.resumed(&tracked.source, &tracked.ledger, tracked.read_at);
            }
        }
        let pages = self.tracked.iter().filter_map(|t| t.page.clone()).collect();
        self.published.publish(pages, || {});
    }

    /// Writes the state; when that fails, polling and serving go on.
    pub(super) async fn save(&mut self) {
        let Some(keeper) = &mut self.keeper else { return };
        let state = State {
            identity: self.identity.clone(),
            position: self.position.clone(),
            read_at: self.read_at,
            sources: self.tracked.iter().map(|t| (t.source.name.clone(), t.saved())).collect(),
        };
        let started = Instant::now();
        let written = keeper.saver.save(state).await;
        let path = keeper.saver.path().display();
        match written {
            Ok(()) if keeper.complained => tracing::info!(%path, "the state is being saved again"),
            Err(ref e) if !keeper.complained => tracing::error!(
                %path,
                "the state cannot be saved: {e}; polling goes on, and a restart would count from the last state saved"
            ),
            _ => {}
        }
        keeper.complained = written.is_err();
        self.metrics.saved(written.is_ok(), started.elapsed());
        self.published.saved(written.is_ok());
    }
}

impl super::Tracked {
    fn saved(&self) -> Saved {
        let (fingerprint, ledger) = (self.fingerprint.clone(), self.ledger.clone());
        Saved { fingerprint, ledger, read_at: self.read_at }
    }
}
