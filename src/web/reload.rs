//! Reads the web configuration again, certificates and keys included, when its files change and at SIGHUP.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::access::AccessControl;
use super::config::loss::losses;
use super::protection::again;
use crate::telemetry::self_metrics::Metrics;

/// The files are looked at this often.
const LOOK: Duration = Duration::from_secs(2);
impl AccessControl {
    /// Has the files read again now, changed or not; false if there are none.
    pub fn reload(&self) -> bool {
        self.reload.notify_one();
        self.file.is_some()
    }

    /// Reads the files again when they have changed and stand still, and at [`Self::reload`], until `stop` changes; the
    /// metrics say how the last time went.
    pub async fn watch(self: Arc<Self>, metrics: Metrics, mut stop: watch::Receiver<bool>) {
        metrics.web_config(true);
        if self.file.is_none() {
            return;
        }
        if self.current().config.is_open() {
            tracing::warn!("the web configuration (web.config_file) asks for neither TLS nor a password");
        }
        loop {
            let is_asked = tokio::select! {
                () = tokio::time::sleep(LOOK) => false,
                () = self.reload.notified() => true,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let access = self.clone();
            // Files can be on a disk that hangs.
            let reading = tokio::task::spawn_blocking(move || access.read_if_changed(is_asked));
            let result = tokio::select! {
                result = reading => result,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let Ok(Some(result)) = result else { continue };
            match &result {
                Ok(()) => tracing::info!("the web configuration has been read again and is in force"),
                Err(problems) => {
                    let problems = problems.join("; ");
                    tracing::error!(
                        "the web configuration has been read again and cannot be used, the old one stays: {problems}"
                    );
                }
            }
            self.problem.store(result.as_ref().err().map(|problems| Arc::new(problems.join("; "))));
            metrics.web_config(result.is_ok());
        }
    }

    /// Reads the files if they have changed and nobody has written to them since the last look, or if that `is_asked` for.
    fn read_if_changed(&self, is_asked: bool) -> Option<Result<(), Vec<String>>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = again(&seen.read);
        let (is_changed, stands_still) = (now != seen.read, now == seen.looked);
        seen.looked = now;
        drop(seen);
        let remedy = "a restart takes this protection away, a change of the file does not";
        (is_asked || is_changed && stands_still).then(|| {
            self.read(|new| {
                let losses = losses(&self.current().config, &new.config);
                losses.into_iter().map(|loss| format!("{loss}: {remedy}")).collect()
            })
        })
    }
}
