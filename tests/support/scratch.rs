//! Temporary directories that go away however the harness ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use super::failure::{Failure, Result};

/// A directory of our own, removed when dropped or when this process ends.
pub struct Scratch {
    path: PathBuf,
    /// A shell that waits for its standard input to close and then removes
    /// `path`, with the PostgreSQL server in it if one is left. It is the one
    /// thing that still runs after this process was killed.
    reaper: Mutex<Option<Child>>,
}

impl Scratch {
    /// A new directory below `parent` whose name says that it is a `purpose`
    /// of ours; it belongs to `owner` (user and group) if one is given.
    pub fn new(purpose: &str, parent: &Path, owner: Option<(u32, u32)>) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let directory = tempfile::Builder::new().prefix(&format!("rsolv-{purpose}-")).tempdir_in(parent)?;
        if let Some((user, group)) = owner {
            std::os::unix::fs::chown(directory.path(), Some(user), Some(group))?;
        }
        // Without links, as the reaper compares it with what the kernel says.
        let path = fs::canonicalize(directory.path())?;
        let mut command = Command::new("sh");
        command.arg("-c").arg(include_str!("reaper.sh")).arg("reaper").arg(&path).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // It has to outlive us and Ctrl-C: not for `process::spawn`.
        let reaper = command.process_group(0).spawn();
        let reaper = reaper.map_err(|error| Failure::new(format!("cannot start sh: {error}")))?;
        let _ = directory.keep(); // from here on it is the reaper's
        Ok(Self { path, reaper: Mutex::new(Some(reaper)) })
    }

    /// The directory, an absolute path without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it now; returns when that is done.
    pub fn remove(&self) {
        let reaper = self.reaper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut reaper) = reaper {
            drop(reaper.stdin.take());
            // Nobody but us can have waited for it.
            let _ = reaper.wait();
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.remove();
    }
}
