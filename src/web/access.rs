//! Who may come in: the protection in force, swapped when its files change.

use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};
use openssl::ssl::SslContext;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::basic_auth::{Verdict, Verifier};
use super::body::Body;
use super::config::loss::losses;
use super::config::{Pem, Tls, WebConfig};
use super::plain_text::plain;
use super::tls;
use crate::telemetry::self_metrics::Metrics;

/// The files are looked at this often.
const LOOK: Duration = Duration::from_secs(2);
/// What probes ask for: they have no password, and a limit must not restart a container.
const OPEN: [&str; 2] = ["/-/healthy", "/-/ready"];

/// What a web configuration makes of connections and requests.
#[derive(Default)]
pub struct Protection {
    /// What connections begin with.
    pub tls: Option<SslContext>,
    /// True if a certificate that a client presented has been verified.
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
    fn load(path: &Path, seen: &mut Stamps) -> Result<Self, Vec<String>> {
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
pub struct AccessControl {
    file: Option<PathBuf>,
    current: ArcSwap<Protection>,
    /// None without a file, as there are no users then.
    verifier: Option<Verifier>,
    reload: Notify,
    seen: Mutex<Seen>,
    /// Why the file as it is now is not in force.
    problem: ArcSwapOption<String>,
}

/// The files of a web configuration, as they were.
type Stamps = Vec<(PathBuf, Option<Stamp>)>;

#[derive(Debug, Default)]
struct Seen {
    /// When they were last read.
    read: Stamps,
    /// When they were last looked at.
    looked: Stamps,
}

impl AccessControl {
    /// Reads the web configuration, if there is one.
    ///
    /// # Errors
    /// Fails with everything that is wrong with it.
    pub fn open(file: Option<PathBuf>) -> Result<Self, Vec<String>> {
        let verifier = file.as_ref().map(|_| Verifier::new()).transpose();
        let verifier = verifier.map_err(|e| vec![format!("passwords cannot be verified: {e}")])?;
        let (current, seen, problem) = (ArcSwap::default(), Mutex::default(), ArcSwapOption::default());
        let access = Self { file, current, verifier, reload: Notify::default(), seen, problem };
        access.read(|_| Vec::new())?;
        Ok(access)
    }

    /// The protection for a connection or a request that comes now.
    pub fn current(&self) -> Arc<Protection> {
        self.current.load_full()
    }

    /// Why the web configuration in force is not the one in the file.
    pub fn problem(&self) -> Option<Arc<String>> {
        self.problem.load_full()
    }

    /// Lets a request go on, true for one of the users, or answers it.
    ///
    /// # Errors
    /// Fails with the response for a client that may not go on.
    pub async fn admit<B>(
        &self,
        request: &Request<B>,
        protection: &Protection,
        client: IpAddr,
    ) -> Result<bool, Response<Body>> {
        if OPEN.contains(&request.uri().path()) {
            return Ok(false);
        }
        let users = &protection.config.users;
        // There is a verifier wherever there are users.
        let verifier = self.verifier.as_ref().filter(|_| !users.is_empty());
        if let Some(verifier) = verifier {
            let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            match verifier.verify(users, authorization, client).await {
                Verdict::Known => {}
                Verdict::Busy => {
                    let text = "503: too many passwords are being verified\n".to_owned();
                    return Err(plain(StatusCode::SERVICE_UNAVAILABLE, text));
                }
                Verdict::Unknown => {
                    let text = "401: user or password missing or wrong\n".to_owned();
                    let mut response = plain(StatusCode::UNAUTHORIZED, text);
                    let challenge = HeaderValue::from_static("Basic realm=\"rsolv-exporter\", charset=\"UTF-8\"");
                    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                    return Err(response);
                }
            }
        }
        // Only after the password: strangers do not spend what users may.
        let over = |rate: &Mutex<Bucket>| !rate.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
        if protection.rate.as_ref().is_some_and(over) {
            return Err(plain(StatusCode::TOO_MANY_REQUESTS, "429: more requests than rate_limit allows\n".to_owned()));
        }
        Ok(verifier.is_some())
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

    /// Reads the files and puts them in force, unless `refuse` has objections.
    fn read(&self, refuse: impl FnOnce(&Protection) -> Vec<String>) -> Result<(), Vec<String>> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut stamps = Stamps::new();
        let result = Protection::load(file, &mut stamps);
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).read = stamps;
        let result = result.and_then(|new| match refuse(&new) {
            objections if objections.is_empty() => Ok(new),
            objections => Err(objections),
        });
        let name = file.display();
        let protection =
            result.map_err(|problems| problems.iter().map(|p| format!("{name}: {p}")).collect::<Vec<_>>())?;
        self.current.store(Arc::new(protection));
        Ok(())
    }
}

/// The same files as they are now.
fn again(stamps: &Stamps) -> Stamps {
    stamps.iter().map(|(path, _)| (path.clone(), Stamp::of(path).ok())).collect()
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
