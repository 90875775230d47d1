//! The state file as the poller uses it: taken up at the start, written before numbers are published.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::Poller;
use crate::state::{self, LoadError, Resumed, Saved, State, StateFile};

/// The state file, and what was said about it.
#[derive(Debug)]
pub struct Keeper {
    file: Arc<StateFile>,
    complained: bool,
}

impl Poller {
    /// Takes the state file at `path` for this process and goes on from what it holds.
    ///
    /// Fails if another process has it, its folder does not exist, or it cannot be read: it can hold what no table has
    /// any more, and saving would replace it. What was read and cannot be used is said, put aside, and counted anew.
    pub fn keep_state(&mut self, path: &Path) -> io::Result<()> {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("state.file {}: {e}", path.display()));
        let file = StateFile::lock(path).map_err(named)?;
        match state::load(file.path()) {
            Ok(state) => self.resume(state),
            Err(LoadError::Absent) => tracing::info!(path = %path.display(), "there is no state yet: counting begins"),
            Err(LoadError::Unreadable(e)) => {
                let remedy = "let the exporter's user read it, or move it away to count anew from the tables";
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
        self.keeper = Some(Keeper { file: Arc::new(file), complained: false });
        Ok(())
    }

    fn resume(&mut self, mut state: State) {
        for tracked in &mut self.tracked {
            let name = &tracked.source.name;
            let Some(saved) = state.sources.remove(name) else {
                tracing::info!(source = name, "is not in the state: counting begins");
                continue;
            };
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
            tracked.ledger = Arc::new(ledger);
        }
        for name in state.sources.keys() {
            tracing::warn!(source = name, "is in the state and no longer defined: what was counted is forgotten");
        }
        self.position = state.position;
        self.read_at = state.read_at;
        self.identity = state.identity;
    }

    /// Writes the state; when that fails, polling and serving go on.
    pub(super) async fn save(&mut self) {
        let Some(keeper) = &self.keeper else { return };
        let state = State {
            identity: self.identity.clone(),
            position: self.position.clone(),
            read_at: self.read_at,
            sources: self.tracked.iter().map(|t| (t.source.name.clone(), t.saved())).collect(),
        };
        let file = keeper.file.clone();
        let written = tokio::task::spawn_blocking(move || file.save(&state)).await;
        let written = written.unwrap_or_else(|e| Err(io::Error::other(e)));
        let Some(keeper) = &mut self.keeper else { return };
        let path = keeper.file.path().display();
        match written {
            Ok(()) if keeper.complained => tracing::info!(%path, "the state is being saved again"),
            Err(ref e) if !keeper.complained => tracing::error!(
                %path,
                "the state cannot be saved: {e}; polling goes on, and a restart would count from the last state saved"
            ),
            _ => {}
        }
        keeper.complained = written.is_err();
        self.metrics.saved(written.is_ok());
    }
}

impl super::Tracked {
    fn saved(&self) -> Saved {
        let (fingerprint, ledger) = (self.fingerprint.clone(), self.ledger.clone());
        Saved { fingerprint, ledger }
    }
}
