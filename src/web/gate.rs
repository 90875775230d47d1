//! Who may come in: the protection in force, swapped when its files change.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};
use openssl::ssl::SslContext;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::auth::{Verdict, Verifier};
use super::body::Body;
use super::config::{ClientAuth, Pem, WebConfig};
use super::routes::plain;
use super::tls;
use crate::metrics::Metrics;

/// The files are looked at this often.
const LOOK: Duration = Duration::from_secs(2);
/// What probes ask for: they have no password, and a limit must not restart a container.
const OPEN: [&str; 2] = ["/-/healthy", "/-/ready"];

/// What a web configuration makes of connections and requests.
#[derive(Default)]
pub struct Protection {
    /// What connections begin with.
    pub tls: Option<SslContext>,
    /// Whether a certificate that a client presented has been verified.
    pub verifies_clients: bool,
    config: WebConfig,
    rate: Option<Mutex<Bucket>>,
}

impl std::fmt::Debug for Protection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Protection").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Protection {
    /// Reads the file at `path` and those that it names; the stamps of all are added to `seen` before they are read.
    fn load(path: &Path, seen: &mut Vec<(PathBuf, Option<Stamp>)>) -> Result<Self, Vec<String>> {
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
        let verifies = |tls: &super::config::Tls| {
            matches!(tls.client_auth, ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify)
        };
        Ok(Self {
            tls,
            verifies_clients: config.tls.as_ref().is_some_and(verifies),
            rate: config.rate.map(|(interval, burst)| Mutex::new(Bucket::new(interval, burst))),
            config,
        })
    }
}

/// A token bucket: a request every `interval`, and up to `burst` at once.
#[derive(Debug)]
struct Bucket {
    interval: Duration,
    burst: u32,
    /// When the bucket is full again.
    full: Instant,
}

impl Bucket {
    fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, burst, full: Instant::now() }
    }

    fn take(&mut self, now: Instant) -> bool {
        let full = self.full.max(now) + self.interval;
        let may = full - now <= self.interval * self.burst;
        if may {
            self.full = full;
        }
        may
    }
}

/// The protection in force.
#[derive(Debug)]
pub struct Gate {
    file: Option<PathBuf>,
    current: ArcSwap<Protection>,
    verifier: Verifier,
    reload: Notify,
    /// The files as they were when they were last read.
    seen: Mutex<Vec<(PathBuf, Option<Stamp>)>>,
}

impl Gate {
    /// Reads the web configuration, if there is one; fails with everything that is wrong with it.
    pub fn open(file: Option<PathBuf>) -> Result<Self, Vec<String>> {
        let verifier = Verifier::new().map_err(|e| vec![format!("no randomness for passwords: {e}")])?;
        let gate =
            Self { file, current: ArcSwap::default(), verifier, reload: Notify::default(), seen: Mutex::default() };
        gate.read()?;
        Ok(gate)
    }

    /// The protection for a connection or a request that comes now.
    pub fn current(&self) -> Arc<Protection> {
        self.current.load_full()
    }

    /// Whether a request may go on, and as whom: true for one of the users. Else the response that it gets.
    pub async fn admit<B>(&self, request: &Request<B>, protection: &Protection) -> Result<bool, Response<Body>> {
        if OPEN.contains(&request.uri().path()) {
            return Ok(false);
        }
        let over = |rate: &Mutex<Bucket>| !rate.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
        if protection.rate.as_ref().is_some_and(over) {
            return Err(plain(StatusCode::TOO_MANY_REQUESTS, "429: more requests than rate_limit allows\n".to_owned()));
        }
        if protection.config.users.is_empty() {
            return Ok(false);
        }
        let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        match self.verifier.verify(&protection.config.users, authorization).await {
            Verdict::Known => Ok(true),
            Verdict::Busy => {
                let text = "503: too many passwords are being verified\n".to_owned();
                Err(plain(StatusCode::SERVICE_UNAVAILABLE, text))
            }
            Verdict::Unknown => {
                let mut response =
                    plain(StatusCode::UNAUTHORIZED, "401: user or password missing or wrong\n".to_owned());
                let challenge = HeaderValue::from_static("Basic realm=\"rsolv-exporter\", charset=\"UTF-8\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                Err(response)
            }
        }
    }

    /// Adds the headers that the configuration asks for; they replace our own.
    pub fn decorate(protection: &Protection, headers: &mut HeaderMap) {
        for (name, value) in &protection.config.headers {
            headers.insert(name, value.clone());
        }
    }

    /// Has the files read again now, changed or not; false if there are none.
    pub fn reload(&self) -> bool {
        self.reload.notify_one();
        self.file.is_some()
    }

    /// Reads the files again whenever they change, until `stop` changes; the metrics say how the last time went.
    pub async fn watch(self: Arc<Self>, metrics: Metrics, mut stop: watch::Receiver<bool>) {
        metrics.web_config(true);
        if self.file.is_none() {
            return;
        }
        loop {
            let asked = tokio::select! {
                () = tokio::time::sleep(LOOK) => false,
                () = self.reload.notified() => true,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let gate = self.clone();
            // Files can be on a disk that hangs.
            let read = move || if asked { Some(gate.read()) } else { gate.read_if_changed() };
            let Ok(Some(result)) = tokio::task::spawn_blocking(read).await else { continue };
            match &result {
                Ok(()) => tracing::info!("the web configuration has been read again and is in force"),
                Err(problems) => {
                    let problems = problems.join("; ");
                    tracing::error!(
                        "the web configuration has been read again and cannot be used, the old one stays: {problems}"
                    );
                }
            }
            metrics.web_config(result.is_ok());
        }
    }

    fn read_if_changed(&self) -> Option<Result<(), Vec<String>>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let changed = seen.iter().any(|(path, stamp)| Stamp::of(path).ok() != *stamp);
        changed.then(|| self.read())
    }

    fn read(&self) -> Result<(), Vec<String>> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut seen = Vec::new();
        let result = Protection::load(file, &mut seen);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        let name = file.display();
        let protection =
            result.map_err(|problems| problems.iter().map(|p| format!("{name}: {p}")).collect::<Vec<_>>())?;
        self.current.store(Arc::new(protection));
        Ok(())
    }
}

/// Tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
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
