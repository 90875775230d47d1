//! Where the database is, and how to get there.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::address::{Address, Mode, Server};
use super::failure::{Failure, Reason};
use super::session::{Session, Timeouts};
use super::tls;

/// A checked address of a database. Its `Debug` and `Display` show no password.
#[derive(Clone)]
pub struct Target {
    address: Address,
    connect_timeout: Duration,
    timeouts: Timeouts,
    url_file: Option<PathBuf>,
    password_file: Option<PathBuf>,
}

impl Target {
    /// Parses a URL as [`Address::parse`] does, and reads the certificates that it names. No error quotes a value.
    pub fn parse(url: &str, connect_timeout: Duration, timeouts: Timeouts) -> Result<Self, String> {
        let address = Address::parse(url)?;
        tls::check(&address.tls)?;
        Ok(Self { address, connect_timeout, timeouts, url_file: None, password_file: None })
    }

    /// How long statements may take.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// The role.
    pub fn user(&self) -> &str {
        self.address.config.get_user().unwrap_or_default()
    }

    /// Takes the URL from a file from now on, which is read anew at every connection, so that it can be rotated.
    pub fn with_url_file(mut self, file: &Path) -> Self {
        self.url_file = Some(file.to_owned());
        self
    }

    /// Takes the password from a file, which is read anew at every connection, so that it can be rotated.
    pub fn with_password_file(mut self, file: &Path) -> io::Result<Self> {
        std::fs::read_to_string(file)?;
        self.password_file = Some(file.to_owned());
        Ok(self)
    }

    /// The address as the files have it now.
    fn current(&self) -> Result<Address, Failure> {
        let read = |key: &str, file: &Path| {
            let text = std::fs::read_to_string(file);
            text.map_err(|e| Failure::new(Reason::Auth, format!("cannot read {key} {}: {e}", file.display())))
        };
        let mut address = match &self.url_file {
            None => self.address.clone(),
            Some(file) => Address::parse(&read("database.url_file", file)?)
                .map_err(|e| Failure::new(Reason::Auth, format!("database.url_file {}: {e}", file.display())))?,
        };
        if let Some(file) = &self.password_file {
            let password = read("database.password_file", file)?;
            // An empty file is no password: a unit's default for who needs none.
            match password.trim_end_matches(['\r', '\n']) {
                "" => {}
                password => _ = address.config.password(password),
            }
        }
        Ok(address)
    }

    /// Makes the one connection, to the first server that will do.
    pub async fn connect(&self) -> Result<Session, Failure> {
        let address = self.current().map_err(Failure::losing)?;
        let wanted: &[Server] = match address.server {
            Server::PreferStandby => &[Server::Standby, Server::Any],
            Server::Any => &[Server::Any],
            Server::Primary => &[Server::Primary],
            Server::Standby => &[Server::Standby],
        };
        let mut failure = None;
        for &server in wanted {
            for config in servers(&address.config) {
                match self.connect_as(config, &address, server).await {
                    Ok(session) => return Ok(session),
                    Err(e) => failure = Some(e),
                }
            }
        }
        Err(failure.unwrap_or_else(|| Failure::new(Reason::Connect, "no server is named")))
    }

    /// Connects with TLS or without, whichever the mode allows and the server lets in.
    async fn connect_as(&self, mut config: Config, address: &Address, server: Server) -> Result<Session, Failure> {
        // As libpq does: what is tried first, and what when that is refused.
        let (first, second) = match address.tls.mode {
            _ if matches!(config.get_hosts(), [Host::Unix(_)]) => (SslMode::Disable, None),
            Mode::Disable => (SslMode::Disable, None),
            Mode::Allow => (SslMode::Disable, Some(SslMode::Require)),
            Mode::Prefer => (SslMode::Prefer, Some(SslMode::Disable)),
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => (SslMode::Require, None),
        };
        config.ssl_mode(first);
        let refused = match (self.connect_to(config.clone(), address, server).await, second) {
            (Err(e), Some(_)) if matches!(e.reason, Reason::Tls | Reason::Auth) => e,
            (result, _) => return result,
        };
        config.ssl_mode(second.unwrap_or(first));
        let how = if second == Some(SslMode::Disable) { "without TLS" } else { "with TLS" };
        self.connect_to(config, address, server).await.map_err(|e| match e.message == refused.message {
            true => refused,
            false => Failure { message: format!("{}; {how}: {e}", refused.message), ..refused },
        })
    }

    async fn connect_to(&self, mut config: Config, address: &Address, server: Server) -> Result<Session, Failure> {
        // Said here, as what is wrong with a file: the server has nothing to do with it.
        tls::check(&address.tls).map_err(|message| Failure::new(Reason::Tls, message).losing())?;
        config.connect_timeout(self.connect_timeout);
        let connecting = async {
            let (client, connection) =
                config.connect(tls::Connector(address.tls.clone())).await.map_err(|e| Failure::of_connect(&e))?;
            let task = tokio::spawn(async move {
                // The reason reaches the statement that runs, or the next one.
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "the connection ended");
                }
            });
            let session = Session::new(client, task, self.timeouts);
            session.will_do(server).await?;
            Ok(session)
        };
        match tokio::time::timeout(self.connect_timeout, connecting).await {
            Ok(result) => result,
            Err(_) => {
                let limit = humantime::format_duration(self.connect_timeout);
                Err(Failure::new(Reason::Timeout, format!("no connection within {limit} (database.connect_timeout)")))
            }
        }
    }
}

/// The same configuration for each of its hosts alone.
fn servers(config: &Config) -> Vec<Config> {
    let count = config.get_hosts().len().max(config.get_hostaddrs().len());
    if count < 2 {
        return vec![config.clone()];
    }
    let ports = config.get_ports();
    (0..count)
        .map(|i| {
            let mut one = Config::new();
            one.user(config.get_user().unwrap_or_default())
                .application_name(config.get_application_name().unwrap_or_default())
                .ssl_negotiation(config.get_ssl_negotiation())
                .channel_binding(config.get_channel_binding())
                .keepalives(config.get_keepalives())
                .keepalives_idle(config.get_keepalives_idle())
                .port(ports.get(i).or(ports.first()).copied().unwrap_or(5432));
            match config.get_hosts().get(i) {
                Some(Host::Tcp(host)) => _ = one.host(host),
                Some(Host::Unix(path)) => _ = one.host_path(path),
                None => {}
            }
            if let Some(address) = config.get_hostaddrs().get(i) {
                one.hostaddr(*address);
            }
            if let Some(password) = config.get_password() {
                one.password(password);
            }
            if let Some(database) = config.get_dbname() {
                one.dbname(database);
            }
            if let Some(options) = config.get_options() {
                one.options(options);
            }
            one
        })
        .collect()
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.address.config;
        let hosts = config.get_hosts().iter().enumerate().map(|(i, host)| {
            let port = config.get_ports().get(i).or(config.get_ports().first()).unwrap_or(&5432);
            match host {
                Host::Tcp(host) => format!("{host}:{port}"),
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        });
        let hosts = hosts.collect::<Vec<_>>().join(",");
        let database = config.get_dbname().unwrap_or_default();
        let mode = match self.address.tls.mode {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target, String> {
        let timeouts = Timeouts { statement: Duration::from_secs(1), lock: Duration::from_secs(1) };
        Target::parse(url, Duration::from_secs(1), timeouts)
    }

    #[test]
    fn passwords_are_not_shown() {
        let target = parse("ecto://app:s3cret@db.example:5433/rsolv").unwrap();
        assert_eq!(format!("{target}"), "postgres://app@db.example:5433/rsolv");
        assert!(!format!("{target:?}").contains("s3cret"));
    }

    #[test]
    fn several_servers_are_tried_one_by_one() {
        let target = parse("postgres://u:p@a:1,b:2/d").unwrap();
        let servers = servers(&target.address.config);
        let ports: Vec<_> = servers.iter().map(|s| (s.get_hosts().len(), s.get_ports())).collect();
        assert_eq!(ports, [(1, &[1][..]), (1, &[2][..])]);
        assert!(servers.iter().all(|s| s.get_password() == Some(b"p") && s.get_dbname() == Some("d")));
    }

    #[test]
    fn a_missing_certificate_is_named() {
        let error = parse("postgres://u@h/d?sslmode=verify-ca&sslrootcert=/nowhere.crt").unwrap_err();
        assert_eq!(error, "cannot read sslrootcert /nowhere.crt: No such file or directory (os error 2)");
    }
}
