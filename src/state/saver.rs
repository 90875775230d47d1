//! Saves the state on a thread of its own: a disk that hangs holds up neither polls nor the end of the process.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::State;
use super::file::StateFile;

/// Saving is waited for this long.
const LIMIT: Duration = Duration::from_secs(10);

type Job = (State, oneshot::Sender<io::Result<()>>);

/// The thread, and what it is at.
#[derive(Debug)]
pub struct Saver {
    path: PathBuf,
    jobs: mpsc::Sender<Job>,
    /// What has taken longer than [`LIMIT`].
    late: Option<oneshot::Receiver<io::Result<()>>>,
}

impl Saver {
    /// Starts the thread, which holds the place of the state as long as this exists.
    ///
    /// # Errors
    /// Fails if the system has no thread to give.
    pub fn start(file: StateFile) -> io::Result<Self> {
        let path = file.path().to_owned();
        Self::with(path, move |state| file.save(state))
    }

    fn with(path: PathBuf, save: impl Fn(&State) -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        std::thread::Builder::new().name("state".to_owned()).spawn(move || {
            for (state, result) in inbox {
                // Who asked may have gone.
                let _ = result.send(save(&state));
            }
        })?;
        Ok(Self { path, jobs, late: None })
    }

    /// Where the state is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Saves a state.
    ///
    /// # Errors
    /// Fails if it cannot be saved or that takes too long, and at once as long as an earlier one is still being saved.
    pub async fn save(&mut self, state: State) -> io::Result<()> {
        let hangs =
            |what: &str| io::Error::new(io::ErrorKind::TimedOut, format!("{what} {LIMIT:?}: does the disk hang?"));
        if let Some(late) = &mut self.late
            && matches!(late.try_recv(), Err(oneshot::error::TryRecvError::Empty))
        {
            return Err(hangs("an earlier one has taken longer than"));
        }
        let (result, mut saved) = oneshot::channel();
        self.jobs.send((state, result)).map_err(io::Error::other)?;
        match tokio::time::timeout(LIMIT, &mut saved).await {
            Ok(saved) => saved.unwrap_or_else(|e| Err(io::Error::other(e))),
            Err(_) => {
                self.late = Some(saved);
                Err(hangs("it takes longer than"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_is_waited_for_once_and_then_used_again() {
        // Each save takes one word from the disk.
        let (disk, words) = mpsc::channel();
        let mut saver = Saver::with("state".into(), move |_| words.recv().map_err(io::Error::other)).unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(saver.save(State::default()).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), LIMIT);
        assert_eq!(saver.save(State::default()).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), LIMIT, "the second one is not waited for");
        disk.send(()).unwrap();
        disk.send(()).unwrap();
        tokio::time::resume();
        while saver.save(State::default()).await.is_err() {}
        assert!(disk.send(()).is_ok(), "only what was asked for was saved");
    }
}
