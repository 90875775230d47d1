//! The state file as the next start would find it; nothing is left behind.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::Report;
use crate::config::Settings;
use crate::source::Source;
use crate::state::{self, LoadError, Resumed, StateFile};

/// Does with `state.file` what a start does, short of changing it.
pub fn check(report: &mut Report, settings: &Settings, sources: &[Source]) {
    let Some(path) = &settings.state_file else {
        report.warnings.push(
            "state.file is not set: after rows are deleted, a restart is a counter reset, which \
             Prometheus reads as new events. Set state.file to a path on a disk that survives."
                .to_owned(),
        );
        return;
    };
    let named = |message: String| format!("state.file {}: {message}", path.display());
    let lock = PathBuf::from(format!("{}.lock", path.display()));
    let was_locked = lock.exists();
    match StateFile::lock(path) {
        Ok(file) => {
            if let Err(e) = file.try_to_write() {
                let message = format!("cannot be written: {e}: totals would not survive a restart");
                report.problems.push(named(message));
            }
        }
        // It is right that the exporter that runs has it.
        Err(e) if e.kind() == ErrorKind::WouldBlock => {
            report.warnings.push(named(format!("is in use: {e}, unless this is the one that runs")));
        }
        Err(e) => return report.problems.push(named(e.to_string())),
    }
    let state = state::load(path);
    if !was_locked {
        remove(&lock);
    }
    match state {
        Ok(mut state) => {
            for source in sources {
                let saved = state.sources.remove(&source.name);
                let resumed = saved.map(|saved| saved.resume(source, source.shape(settings.series.limit)));
                if let Some(Resumed::Partly(_) | Resumed::Nothing(_)) = resumed {
                    report.warnings.push(format!(
                        "{}: its definition is not the one with which state.file was written: the next start counts it anew \
                         from the table, as far as its rows are still there",
                        source.name
                    ));
                }
            }
        }
        Err(LoadError::Absent) => {}
        Err(e) => report.problems.push(named(format!(
            "{e}: a start would keep it aside as .bad, if it could be read at all, and count anew from the tables, without \
             the rows that have been deleted from them"
        ))),
    }
}

/// What this check has made itself.
fn remove(lock: &Path) {
    // Where it could not be made, it is not there.
    let _ = fs::remove_file(lock);
}
