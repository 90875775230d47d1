//! Where the database is, and how to get there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::{Config, NoTls};

use super::failure::{Failure, Reason};
use super::session::{Session, Timeouts};

/// A checked address of a database. Its `Debug` and `Display` show no password.
#[derive(Clone)]
pub struct Target {
    config: Config,
    connect_timeout: Duration,
    timeouts: Timeouts,
    password_file: Option<PathBuf>,
}

impl Target {
    /// Parses `postgres://`, `postgresql://` or the platform's `ecto://` URL, or `key=value` pairs as libpq takes them.
    pub fn parse(url: &str, connect_timeout: Duration, timeouts: Timeouts) -> Result<Self, String> {
        let url = url.trim();
        let url = url.strip_prefix("ecto://").map_or_else(|| url.to_owned(), |rest| format!("postgres://{rest}"));
        // The parser's own words can quote the URL, and with it the password; its cause cannot.
        let mut config = Config::from_str(&url).map_err(|e| {
            let cause = std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default();
            let cause =
                if cause.contains(['`', '"', '\'']) || cause.is_empty() { String::new() } else { format!(": {cause}") };
            format!("is no PostgreSQL URL (postgres://USER@HOST:PORT/DATABASE){cause}")
        })?;
        if config.get_hosts().is_empty() {
            return Err("names no host".to_owned());
        }
        config.application_name("rsolv-exporter").connect_timeout(connect_timeout);
        Ok(Self { config, connect_timeout, timeouts, password_file: None })
    }

    /// The role.
    pub fn user(&self) -> &str {
        self.config.get_user().unwrap_or_default()
    }

    /// How long statements may take.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Takes the password from a file, which is read anew at every connection, so that it can be rotated.
    pub fn with_password_file(mut self, file: &Path) -> std::io::Result<Self> {
        std::fs::read_to_string(file)?;
        self.password_file = Some(file.to_owned());
        Ok(self)
    }

    fn current(&self) -> Result<Config, Failure> {
        let mut config = self.config.clone();
        if let Some(file) = &self.password_file {
            let password = std::fs::read_to_string(file).map_err(|e| {
                Failure::new(Reason::Auth, format!("cannot read database.password_file {}: {e}", file.display()))
            })?;
            config.password(password.trim_end_matches(['\r', '\n']));
        }
        Ok(config)
    }

    /// Makes the one connection.
    pub async fn connect(&self) -> Result<Session, Failure> {
        let limit = self.connect_timeout * u32::try_from(self.config.get_hosts().len().max(1)).unwrap_or(1);
        match tokio::time::timeout(limit, self.current()?.connect(NoTls)).await {
            Ok(Ok((client, connection))) => {
                let task = tokio::spawn(async move {
                    // The reason reaches the statement that runs, or the next one.
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "the connection ended");
                    }
                });
                Ok(Session::new(client, task, self.timeouts))
            }
            Ok(Err(error)) => Err(Failure::of_connect(&error)),
            Err(_) => {
                let limit = humantime::format_duration(limit);
                Err(Failure::new(Reason::Timeout, format!("no connection within {limit} (database.connect_timeout)")))
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.config.get_hosts().iter().enumerate().map(|(i, host)| {
            let port = self.config.get_ports().get(i).or(self.config.get_ports().first()).unwrap_or(&5432);
            match host {
                tokio_postgres::config::Host::Tcp(host) => format!("{host}:{port}"),
                tokio_postgres::config::Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        });
        let user = self.config.get_user().unwrap_or_default();
        let database = self.config.get_dbname().unwrap_or_default();
        write!(f, "postgres://{user}@{}/{database}", hosts.collect::<Vec<_>>().join(","))
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
    fn the_platforms_urls_are_understood_and_passwords_are_not_shown() {
        let target = parse("ecto://app:s3cret@db.example:5433/rsolv").unwrap();
        assert_eq!(format!("{target}"), "postgres://app@db.example:5433/rsolv");
        assert!(!format!("{target:?}").contains("s3cret"));
    }

    #[test]
    fn no_error_quotes_the_url() {
        for url in
            ["postgres://app:s3cret@db:notaport/x", "s3cret", "postgres://u:s3cret@h/db?s3cret=1", "mysql://s3cret"]
        {
            let error = parse(url).unwrap_err();
            assert!(!error.contains("s3cret"), "{url}: {error}");
        }
    }
}
