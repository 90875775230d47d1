//! What a web configuration makes of connections and requests, read from its files.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use openssl::ssl::SslContext;
use tokio::time::Instant;

use super::config::{Pem, Tls, WebConfig};
use super::tls;

/// What a web configuration makes of connections and requests.
#[derive(Default)]
pub struct Protection {
    /// What connections begin with.
    pub tls: Option<SslContext>,
    /// True if a certificate that a client presented has been verified.
    pub verifies_clients: bool,
    pub(super) config: WebConfig,
    pub(super) rate: Option<Mutex<Bucket>>,
}

impl std::fmt::Debug for Protection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Protection").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Protection {
    /// Reads the file at `path` and those that it names; the stamps of all are added to `seen` before they are read.
    pub(super) fn load(path: &Path, seen: &mut Stamps) -> Result<Self, Vec<String>> {
        let mut look = |path: &Path| seen.push((path.to_owned(), Stamp::of(path).ok()));
        look(path);
        let text = std::fs::read_to_string(path).map_err(|e| vec![format!("cannot be read: {e}")])?;
        let config = WebConfig::parse(&text, path.parent().unwrap_or(Path::new(".")))?;
        for pem in config.tls.iter().flat_map(|tls| [Some(&tls.certificate), Some(&tls.key), tls.client_ca.as_ref()]) {
            if let Some(Pem::File(_, file)) = pem {
                look(file);
            }
        }
        let tls = config.tls.as_ref().map(tls::context).transpose();
        let tls = tls.map_err(|problem| vec![format!("tls_server_config.{problem}")])?;
        if again(seen) != *seen {
            return Err(vec!["it or a file that it names changed while it was read".to_owned()]);
        }
        Ok(Self {
            tls,
            verifies_clients: config.tls.as_ref().is_some_and(Tls::verifies),
            rate: config.rate.map(|(interval, burst)| Mutex::new(Bucket::new(interval, burst))),
            config,
        })
    }
}

/// A token bucket: a request every `interval`, and up to `burst` at once.
#[derive(Debug)]
pub(super) struct Bucket {
    interval: Duration,
    burst: u32,
    /// When the bucket is full again.
    full: Instant,
}

impl Bucket {
    fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, burst, full: Instant::now() }
    }

    pub(super) fn take(&mut self, now: Instant) -> bool {
        let full = self.full.max(now) + self.interval;
        let may = full - now <= self.interval * self.burst;
        if may {
            self.full = full;
        }
        may
    }
}

/// The files of a web configuration, as they were.
pub(super) type Stamps = Vec<(PathBuf, Option<Stamp>)>;

/// The same files as they are now.
pub(super) fn again(stamps: &Stamps) -> Stamps {
    stamps.iter().map(|(path, _)| (path.clone(), Stamp::of(path).ok())).collect()
}

/// Tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let m = std::fs::metadata(path)?;
        Ok(Self {
            file: (m.dev(), m.ino()),
            size: m.size(),
            modified: (m.mtime(), m.mtime_nsec()),
            changed: (m.ctime(), m.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_holds_a_burst_and_fills_at_the_interval() {
        let mut bucket = Bucket::new(Duration::from_secs(1), 3);
        let mut take = async |after: u64| {
            tokio::time::advance(Duration::from_millis(after)).await;
            bucket.take(Instant::now())
        };
        let taken = [take(0).await, take(0).await, take(0).await, take(0).await, take(999).await, take(1).await];
        assert_eq!(taken, [true, true, true, false, false, true]);
        assert_eq!(
            [take(0).await, take(10_000).await, take(0).await, take(0).await, take(0).await],
            [false, true, true, true, false]
        );
    }
}
