//! Makes the connection: to which server, by which address, and what to say when none will do.

mod refusals;
mod spot;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::address::{Address, Environment, Host, Mode, Server};
use super::failure::{Failure, Reason};
use super::password::{Password, read_file};
use super::session::{Lease, Session, Timeouts};
use super::tls;
use refusals::{Rank, Refusals};
use spot::Spot;

/// An address that failed is tried after the others for so long.
const AVOIDED: Duration = Duration::from_secs(60);

/// Where the URL comes from.
#[derive(Clone)]
pub enum Url {
    /// `database.url`.
    Text(String),
    /// `database.url_file`, read anew at every connection.
    File(PathBuf),
}

/// What the settings say of a database and of connections to it.
#[derive(Clone)]
pub struct Options {
    /// Where the URL comes from.
    pub url: Url,
    /// Where the password comes from.
    pub password: Password,
    /// libpq's variables, for what the URL leaves open.
    pub environment: Environment,
    /// How long steps may take.
    pub timeouts: Timeouts,
    /// True if the URL's `connect_timeout` counts more than that of `timeouts`.
    pub url_may_set_timeout: bool,
    /// A connection is left at this age, give or take a twentieth.
    pub max_lifetime: Duration,
}

/// On the way to a verdict.
pub type Checking<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// What a server has to meet beside `target_session_attrs`.
pub trait Demand: Sync {
    /// Fails if this server does not; the next one is tried then.
    fn check<'a>(&'a self, session: &'a Session) -> Checking<'a>;
}

struct Anyone;

impl Demand for Anyone {
    fn check<'a>(&'a self, _: &'a Session) -> Checking<'a> {
        Box::pin(async { Ok(()) })
    }
}

/// A checked address of a database. Its `Debug` and `Display` show no password.
#[derive(Clone)]
pub struct Target {
    options: Options,
    /// The address at the start, for people.
    address: Address,
    memory: Arc<Mutex<Memory>>,
}

/// What one connection leaves for the next.
#[derive(Default)]
struct Memory {
    /// The server of the last connection, once it was made.
    server: Option<String>,
    /// When an address failed.
    failed: BTreeMap<Spot, Instant>,
}

impl Target {
    /// Reads the URL, and the files that it and the options name.
    ///
    /// # Errors
    /// If something of it cannot be used; with the setting to blame. No error quotes a value.
    pub fn new(options: Options) -> Result<Self, (&'static str, String)> {
        if let Password::File(path) = &options.password {
            read_file("", path).map_err(|e| ("database.password_file", e.message.replacen("read  ", "read ", 1)))?;
        }
        let (setting, url) = match &options.url {
            Url::Text(url) => ("database.url", url.clone()),
            Url::File(path) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|e| format!("cannot read {}: {e}", path.display()));
                ("database.url_file", text.map_err(|e| ("database.url_file", e))?)
            }
        };
        let mut address = Address::parse(&url, &options.environment).map_err(|e| (setting, e.to_string()))?;
        if let Some(setting) = options.password.setting().filter(|_| address.has_password()) {
            address.notes.push(format!("not used, since {setting} is set: the password of the URL or the environment"));
        }
        tls::check(&address.tls).map_err(|e| (setting, e.to_string()))?;
        Ok(Self { options, address, memory: Arc::default() })
    }

    /// How long statements may take.
    pub fn timeouts(&self) -> Timeouts {
        self.options.timeouts
    }

    /// True if the URL, or the environment beside it, holds a password.
    pub fn has_password(&self) -> bool {
        self.address.has_password()
    }

    /// The role.
    pub fn user(&self) -> &str {
        self.address.user()
    }

    /// What to tell at the start about the URL and the environment; without values.
    pub fn notes(&self) -> &[String] {
        &self.address.notes
    }

    /// The server of the last connection; none if it was not made.
    pub fn server(&self) -> Option<String> {
        self.memory().server.clone()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address as files, the environment and the command have it now.
    async fn current(&self) -> Result<Address, Failure> {
        let Options { url, password, environment, .. } = &self.options;
        let mut address = match url {
            Url::Text(text) => Address::parse(text, environment).map_err(|e| Failure::new(Reason::Auth, e.to_string())),
            Url::File(path) => Address::parse(&read_file("database.url_file", path)?, environment)
                .map_err(|e| Failure::new(Reason::Auth, format!("database.url_file {}: {e}", path.display()))),
        }?;
        if let Some(text) = password.read().await? {
            let known = address.login.get_password().is_some() || address.hosts.iter().any(|h| h.password.is_some());
            if let Some(setting) = password.setting().filter(|_| known) {
                address
                    .notes
                    .push(format!("the password is that of {setting}, not that of the URL or the environment"));
            }
            address.login.password(text);
            address.hosts.iter_mut().for_each(|host| host.password = None);
        }
        Ok(address)
    }

    /// Makes a connection to the first server that will do.
    ///
    /// # Errors
    /// Fails if there is none, with what each server said.
    pub async fn connect(&self) -> Result<Session, Failure> {
        self.connect_if(&Anyone).await
    }

    /// Makes a connection to the first server that will do and that meets the demand.
    ///
    /// # Errors
    /// If there is none, with what each server said.
    pub async fn connect_if(&self, demand: &dyn Demand) -> Result<Session, Failure> {
        self.memory().server = None;
        let mut address = self.current().await.map_err(Failure::losing)?;
        // Said here, as what is wrong with a file: the server has nothing to do with it.
        tls::check(&address.tls).map_err(|e| Failure::new(Reason::Tls, e.to_string()).losing())?;
        if address.shuffled {
            fastrand::shuffle(&mut address.hosts);
        }
        let limit = address.connect_timeout.filter(|_| self.options.url_may_set_timeout);
        let limit = limit.unwrap_or(self.options.timeouts.connect);
        let avoided = self.avoided();
        let mut resolved: Vec<Option<Vec<Spot>>> = vec![None; address.hosts.len()];
        let (mut refusals, mut failed) = (Refusals::default(), BTreeSet::new());
        for (wanted, last) in rounds(address.server) {
            for (host, spots) in address.hosts.iter().zip(&mut resolved) {
                if spots.is_none() {
                    let found = tokio::time::timeout(limit, spot::resolve(host, address.shuffled)).await;
                    let found = found.unwrap_or_else(|_| Err(too_late(limit)));
                    *spots = Some(found.unwrap_or_else(|e| {
                        refusals.add(host.to_string(), Rank::Failed, e);
                        Vec::new()
                    }));
                }
                for spot in spots.as_deref().unwrap_or_default() {
                    if avoided.contains(spot) != last || failed.contains(spot) {
                        continue;
                    }
                    let name = spot.name(host);
                    let attempt = Attempt { target: self, address: &address, host, spot, limit, wanted };
                    let refusal = match tokio::time::timeout(limit, attempt.make(&name, demand)).await {
                        Ok(Ok(session)) => {
                            self.connected(spot, name);
                            return Ok(session);
                        }
                        Ok(Err(refusal)) => refusal,
                        Err(_) => (Rank::Failed, too_late(limit)),
                    };
                    if refusal.0 != Rank::Unwanted {
                        failed.insert(spot.clone());
                    }
                    if refusal.0 == Rank::Failed {
                        self.memory().failed.insert(spot.clone(), Instant::now());
                    }
                    refusals.add(name, refusal.0, refusal.1);
                }
            }
        }
        Err(refusals.sum())
    }

    /// The addresses that failed lately.
    fn avoided(&self) -> BTreeSet<Spot> {
        let mut memory = self.memory();
        memory.failed.retain(|_, at| at.elapsed() < AVOIDED);
        memory.failed.keys().cloned().collect()
    }

    fn connected(&self, spot: &Spot, name: String) {
        let mut memory = self.memory();
        memory.failed.remove(spot);
        memory.server = Some(name);
    }
}

/// What is looked for in which order, and whether among the addresses that failed lately.
fn rounds(server: Server) -> Vec<(Server, bool)> {
    match server {
        Server::PreferStandby => vec![(Server::Standby, false), (Server::Any, false), (Server::Any, true)],
        server => vec![(server, false), (server, true)],
    }
}

fn too_late(limit: Duration) -> Failure {
    let limit = humantime::format_duration(limit);
    Failure::new(Reason::Timeout, format!("no connection within {limit} (database.connect_timeout)"))
}

/// One address on its way to a session.
struct Attempt<'a> {
    target: &'a Target,
    address: &'a Address,
    host: &'a Host,
    spot: &'a Spot,
    limit: Duration,
    wanted: Server,
}

impl Attempt<'_> {
    async fn make(&self, name: &str, demand: &dyn Demand) -> Result<Session, (Rank, Failure)> {
        let failed = |e| (Rank::Failed, e);
        let session = self.with_tls_or_without(name).await.map_err(failed)?;
        let wants = match self.wanted {
            Server::Any | Server::PreferStandby => None,
            Server::Primary => Some(("standby", "primary")),
            Server::Standby => Some(("primary", "standby")),
        };
        if let Some((is, wants)) = wants {
            let position = session.begin().await.map_err(failed)?.position;
            session.end().await.map_err(failed)?;
            if !session.fits(&position) {
                let message = format!("the server is a {is}, and target_session_attrs wants a {wants}");
                return Err((Rank::Unwanted, Failure::new(Reason::Connect, message)));
            }
        }
        match demand.check(&session).await {
            Ok(()) => Ok(session),
            Err(e) if e.reason == Reason::Behind => Err((Rank::Behind, e)),
            Err(e) => Err(failed(e)),
        }
    }

    /// Connects with TLS or without, whichever the mode allows and the server lets in.
    async fn with_tls_or_without(&self, name: &str) -> Result<Session, Failure> {
        // As libpq does: what is tried first, and what when that is refused.
        let (first, second) = match self.address.tls.mode {
            // As in libpq, TLS is for TCP only.
            _ if matches!(self.spot, Spot::Socket(_)) => (SslMode::Disable, None),
            Mode::Disable => (SslMode::Disable, None),
            Mode::Allow => (SslMode::Disable, Some(SslMode::Require)),
            Mode::Prefer => (SslMode::Prefer, Some(SslMode::Disable)),
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => (SslMode::Require, None),
        };
        let (refused, second) = match (self.login(name, first).await, second) {
            (Err(e), Some(second)) if matches!(e.reason, Reason::Tls | Reason::Auth) => (e, second),
            (result, _) => return result,
        };
        let how = if second == SslMode::Disable { "without TLS" } else { "with TLS" };
        self.login(name, second).await.map_err(|e| match e.message == refused.message {
            true => refused,
            false => Failure { message: format!("{}; {how}: {e}", refused.message), ..refused },
        })
    }

    async fn login(&self, name: &str, mode: SslMode) -> Result<Session, Failure> {
        let Self { address, host, .. } = self;
        let mut config = address.login.clone();
        config.ssl_mode(mode);
        if let Some(password) = &host.password {
            config.password(password);
        }
        let refused = |e: io::Error| Failure::new(Reason::Connect, e.to_string());
        match self.spot {
            Spot::Tcp(at) => self.start(spot::open(*at, address).await.map_err(refused)?, &config, name).await,
            Spot::Socket(path) => self.start(spot::open_socket(path).await.map_err(refused)?, &config, name).await,
        }
    }

    async fn start<S>(&self, stream: S, config: &Config, name: &str) -> Result<Session, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let tls = tls::Connector { tls: &self.address.tls, host: &self.host.name };
        let (client, connection) = config.connect_raw(stream, tls).await.map_err(|e| Failure::of_connect(&e))?;
        let task = tokio::spawn(async move {
            // The reason reaches the statement that runs, or the next one.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection ended");
            }
        });
        let lease = Lease {
            server: name.to_owned(),
            wanted: self.wanted,
            until: Instant::now() + jitter(self.target.options.max_lifetime),
        };
        let timeouts = Timeouts { connect: self.limit, ..self.target.timeouts() };
        Ok(Session::new(client, task, timeouts, lease))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { hosts, login, tls, .. } = &self.address;
        let hosts = hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let database = login.get_dbname().unwrap_or_default();
        let over_tcp = self.address.hosts.iter().any(Host::is_tcp);
        let mode = match tls.mode {
            _ if !over_tcp => "",
            Mode::Disable | Mode::Allow | Mode::Prefer => "",
            Mode::Require => "?sslmode=require",
            Mode::VerifyCa => "?sslmode=verify-ca",
            Mode::VerifyFull => "?sslmode=verify-full",
        };
        write!(f, "postgres://{}@{hosts}/{database}{mode}", self.user())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

/// A time up to 5% shorter or longer, so that exporters that started together drift apart.
pub fn jitter(time: Duration) -> Duration {
    time.mul_f64(0.95 + fastrand::f64() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, (&'static str, String)> {
        let second = Duration::from_secs(1);
        Target::new(Options {
            url: Url::Text(url.to_owned()),
            password: Password::Address,
            environment: Environment::default(),
            timeouts: Timeouts { connect: second, statement: second, lock: second },
            url_may_set_timeout: true,
            max_lifetime: Duration::from_secs(1800),
        })
    }

    #[test]
    fn passwords_are_not_shown() {
        let target = target("ecto://app:s3cret@db.example:5433/rsolv").unwrap();
        assert_eq!(format!("{target}"), "postgres://app@db.example:5433/rsolv");
        assert!(!format!("{target:?}").contains("s3cret"));
    }

    #[test]
    fn addresses_are_shown_as_urls_have_them() {
        assert_eq!(target("postgres://u@[::1]:1,b/d").unwrap().to_string(), "postgres://u@[::1]:1,b:5432/d");
        let socket = target("postgres://u@%2Frun%2Fpostgresql/d?sslmode=require").unwrap();
        assert_eq!(socket.to_string(), "postgres://u@/run/postgresql:5432/d");
    }

    #[test]
    fn a_missing_certificate_is_named() {
        let error = target("postgres://u@h/d?sslmode=verify-ca&sslrootcert=/nowhere.crt").unwrap_err();
        let message = "cannot read sslrootcert /nowhere.crt: No such file or directory (os error 2)";
        assert_eq!(error, ("database.url", message.to_owned()));
    }
}
