//! Who may come in: the protection in force, which [`super::reload`] swaps.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::basic_auth::{Verdict, Verifier};
use super::body::Body;
use super::plain_text::plain;
use super::protection::{Bucket, Protection, Stamps};

/// What probes ask for: they have no password, and a limit must not restart a container.
const OPEN: [&str; 2] = ["/-/healthy", "/-/ready"];

/// The protection in force.
#[derive(Debug)]
pub struct AccessControl {
    pub(super) file: Option<PathBuf>,
    pub(super) current: ArcSwap<Protection>,
    /// None without a file, as there are no users then.
    verifier: Option<Verifier>,
    pub(super) reload: Notify,
    pub(super) seen: Mutex<Seen>,
    /// Why the file as it is now is not in force.
    pub(super) problem: ArcSwapOption<String>,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    /// When they were last read.
    pub(super) read: Stamps,
    /// When they were last looked at.
    pub(super) looked: Stamps,
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

    /// Reads the files and puts them in force, unless `refuse` has objections.
    pub(super) fn read(&self, refuse: impl FnOnce(&Protection) -> Vec<String>) -> Result<(), Vec<String>> {
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
