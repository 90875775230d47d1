//! What a database URL says, with what libpq's variables and files add to it.

mod conninfo;
mod environment;
mod invalid;
mod parameters;
mod passfile;
mod values;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use openssl::ssl::SslVersion;
use socket2::TcpKeepalive;
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, SslNegotiation};

pub use environment::Environment;
pub use invalid::InvalidAddress;
use values::Values;

/// A parsed URL.
#[derive(Clone)]
pub struct Address {
    /// The servers, in the order in which they are tried.
    pub hosts: Vec<Host>,
    /// True if they are tried in random order.
    pub shuffled: bool,
    /// Which of several servers will do.
    pub server: Server,
    /// User, database, password and what else the driver sends.
    pub login: Config,
    /// Whether and how TLS is used.
    pub tls: Tls,
    /// How the kernel notices a peer that is gone; none: it does not look.
    pub keepalive: Option<TcpKeepalive>,
    /// How long the kernel waits for an acknowledgement.
    pub user_timeout: Option<Duration>,
    /// `connect_timeout`, if it is set.
    pub connect_timeout: Option<Duration>,
    /// What to tell about it once; without values.
    pub notes: Vec<String>,
}

/// One entry of the list of hosts.
#[derive(Clone)]
pub struct Host {
    /// How to reach it.
    pub place: Location,
    /// The name for TLS and for people; empty for an address without a name.
    pub name: String,
    /// The port.
    pub port: u16,
    /// The password for it, from a password file.
    pub password: Option<String>,
}

/// How to reach a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A name to be resolved.
    Name(String),
    /// An address.
    Address(IpAddr),
    /// The directory of its socket, or an abstract socket (`@…`).
    Socket(String),
}

/// `sslmode` and what goes with it, as libpq defines it (PostgreSQL documentation, 34.19).
#[derive(Clone, Debug)]
pub struct Tls {
    /// How much is demanded.
    pub mode: Mode,
    /// `sslrootcert`: the certificates that are trusted; none for the system's.
    pub root: Option<PathBuf>,
    /// `sslcrl`, `sslcrldir`: certificates that were revoked.
    pub revoked: [Option<PathBuf>; 2],
    /// `sslcert`: the client's certificate.
    pub cert: Option<PathBuf>,
    /// `sslkey`: the client's key.
    pub key: Option<PathBuf>,
    /// `sslpassword`: the password of the key.
    pub password: Secret,
    /// `sslsni`: whether the server's name is sent in the clear.
    pub sni: bool,
    /// `sslnegotiation=direct`: TLS begins at once, without asking for it.
    pub direct: bool,
    /// `ssl_min_protocol_version`, `ssl_max_protocol_version`; none for the library's own.
    pub versions: [Option<SslVersion>; 2],
}

/// Text that `Debug` does not show.
#[derive(Clone, Default)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// `sslmode`. In each the certificate has to be a trusted one when `sslrootcert` is set, as libpq has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Mode {
    /// Never TLS.
    Disable,
    /// TLS if the server wants no connection without it.
    Allow,
    /// TLS if the server offers it, and without TLS if that does not work.
    Prefer,
    /// TLS, with any certificate.
    Require,
    /// TLS with a trusted certificate.
    VerifyCa,
    /// TLS with a trusted certificate for this host.
    VerifyFull,
}

/// `target_session_attrs`. `read-write` and `read-only` mean `primary` and `standby`: the exporter's role may well be
/// read only by default, and it only ever reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// The first that answers.
    Any,
    /// One that is not in recovery.
    Primary,
    /// One that is in recovery.
    Standby,
    /// A standby, or else any.
    PreferStandby,
}

const MODES: [(&str, Mode); 6] = [
    ("prefer", Mode::Prefer),
    ("disable", Mode::Disable),
    ("allow", Mode::Allow),
    ("require", Mode::Require),
    ("verify-ca", Mode::VerifyCa),
    ("verify-full", Mode::VerifyFull),
];

const SERVERS: [(&str, Server); 6] = [
    ("any", Server::Any),
    ("read-write", Server::Primary),
    ("read-only", Server::Standby),
    ("primary", Server::Primary),
    ("standby", Server::Standby),
    ("prefer-standby", Server::PreferStandby),
];

const VERSIONS: [(&str, Option<SslVersion>); 5] = [
    ("", None),
    ("tlsv1", Some(SslVersion::TLS1)),
    ("tlsv1.1", Some(SslVersion::TLS1_1)),
    ("tlsv1.2", Some(SslVersion::TLS1_2)),
    ("tlsv1.3", Some(SslVersion::TLS1_3)),
];

impl Address {
    /// True if there is a password for some host.
    pub fn has_password(&self) -> bool {
        self.login.get_password().is_some() || self.hosts.iter().any(|host| host.password.is_some())
    }

    /// Parses `postgres://`, `postgresql://` or `ecto://` URLs, or libpq's `key=value` pairs; what they leave open is
    /// taken from the environment as libpq does. No error quotes a value.
    pub fn parse(url: &str, environment: &Environment) -> Result<Self, InvalidAddress> {
        let mut values = Values::gather(url, environment)?;
        let mut login = Config::new();
        let user = match values.filled("user") {
            Some(user) => user.to_owned(),
            None => whoami::username().map_err(|_| "names no user, and neither does the operating system")?,
        };
        let database = values.filled("dbname").unwrap_or(&user).to_owned();
        login.user(&user).dbname(&database);
        let name = ["application_name", "fallback_application_name"].iter().find_map(|name| values.filled(name));
        login.application_name(name.unwrap_or("rsolv-exporter"));
        if let Some(options) = values.filled("options") {
            login.options(options);
        }
        login.channel_binding(values.word(
            "channel_binding",
            &[
                ("prefer", ChannelBinding::Prefer),
                ("disable", ChannelBinding::Disable),
                ("require", ChannelBinding::Require),
            ],
        )?);
        let mut hosts = hosts(&values)?;
        let tls = Tls::of(&values, environment)?;
        login.ssl_negotiation(if tls.direct { SslNegotiation::Direct } else { SslNegotiation::Postgres });
        if tls.direct && tls.mode < Mode::Require && hosts.iter().any(Host::is_tcp) {
            return Err(values.wrong("sslnegotiation", "direct needs sslmode=require, verify-ca or verify-full"));
        }
        if tls.mode == Mode::VerifyFull && hosts.iter().any(|host| host.is_tcp() && host.name.is_empty()) {
            return Err("sslmode verify-full needs a host name beside each hostaddr".into());
        }
        match values.filled("password") {
            Some(password) => _ = login.password(password),
            None => {
                let file = values.filled("passfile").map(PathBuf::from).or_else(|| environment.home(".pgpass"));
                match file.map_or(Ok(None), |file| passfile::read(&file)) {
                    Ok(text) => hosts.iter_mut().for_each(|host| host.find_password(&text, &database, &user)),
                    Err(unusable) => values.notes.push(unusable.to_string()),
                }
            }
        }
        Ok(Self {
            hosts,
            shuffled: values.word("load_balance_hosts", &[("disable", false), ("random", true)])?,
            server: values.word("target_session_attrs", &SERVERS)?,
            login,
            tls,
            keepalive: keepalive(&values)?,
            user_timeout: above_zero(values.number("tcp_user_timeout")?).map(Duration::from_millis),
            connect_timeout: above_zero(values.number("connect_timeout")?).map(Duration::from_secs),
            notes: values.notes,
        })
    }

    /// The role.
    pub fn user(&self) -> &str {
        self.login.get_user().unwrap_or_default()
    }
}

/// For numbers of which 0 and less mean the system's default.
fn above_zero(number: Option<i32>) -> Option<u64> {
    number.and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0)
}

fn keepalive(values: &Values) -> Result<Option<TcpKeepalive>, InvalidAddress> {
    let mut keepalive = TcpKeepalive::new();
    if let Some(idle) = above_zero(values.number("keepalives_idle")?) {
        keepalive = keepalive.with_time(Duration::from_secs(idle));
    }
    if let Some(interval) = above_zero(values.number("keepalives_interval")?) {
        keepalive = keepalive.with_interval(Duration::from_secs(interval));
    }
    if let Some(count) = above_zero(values.number("keepalives_count")?) {
        keepalive = keepalive.with_retries(u32::try_from(count).unwrap_or(u32::MAX));
    }
    Ok((values.number("keepalives")?.unwrap_or(1) != 0).then_some(keepalive))
}

/// The list of hosts, by libpq's rules for lists of different lengths.
fn hosts(values: &Values) -> Result<Vec<Host>, InvalidAddress> {
    let list = |name| values.filled(name).map(|text| text.split(',').collect::<Vec<_>>());
    let (names, addresses, ports) = (list("host"), list("hostaddr"), list("port").unwrap_or_else(|| vec![""]));
    let count = addresses.as_ref().or(names.as_ref()).map_or(1, Vec::len);
    if let Some(names) = names.as_ref().filter(|names| names.len() != count) {
        return Err(format!("has {} hosts and {count} hostaddrs: write as many of each", names.len()).into());
    }
    if ports.len() != 1 && ports.len() != count {
        return Err(format!("has {} ports and {count} hosts: write one port, or one for each host", ports.len()).into());
    }
    let host = |i: usize| {
        let name = names.as_ref().map_or("", |names| names[i]).to_owned();
        let place = match addresses.as_ref().map_or("", |addresses| addresses[i]) {
            "" if name.is_empty() => Location::Socket(sockets().to_owned()),
            "" if name.starts_with(['/', '@']) => Location::Socket(name.clone()),
            // An address in the place of a name needs no resolver.
            "" => name.parse().map_or_else(|_| Location::Name(name.clone()), Location::Address),
            address => {
                Location::Address(address.parse().map_err(|_| values.wrong("hostaddr", "must be an IP address"))?)
            }
        };
        let port = match ports[if ports.len() == 1 { 0 } else { i }].trim() {
            "" => 5432,
            port => port
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| values.wrong("port", "must be a number from 1 to 65535"))?,
        };
        Ok(Host { place, name, port, password: None })
    };
    (0..count).map(host).collect()
}

/// Where the socket is if no host is named: in Debian's directory if there is one, else in PostgreSQL's own.
fn sockets() -> &'static str {
    const DEBIANS: &str = "/var/run/postgresql";
    if Path::new(DEBIANS).exists() { DEBIANS } else { "/tmp" }
}

impl Host {
    /// True if it is reached over the network.
    pub fn is_tcp(&self) -> bool {
        !matches!(self.place, Location::Socket(_))
    }

    fn find_password(&mut self, file: &Option<String>, database: &str, user: &str) {
        let name = match &self.place {
            Location::Socket(directory) if directory == sockets() => "localhost".to_owned(),
            Location::Address(address) if self.name.is_empty() => address.to_string(),
            _ => self.name.clone(),
        };
        let login = [&name, &self.port.to_string(), database, user];
        self.password = file.as_ref().and_then(|text| passfile::find(text, login));
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port;
        match &self.place {
            Location::Socket(directory) => write!(f, "{directory}:{port}"),
            Location::Address(IpAddr::V6(address)) if self.name.is_empty() => write!(f, "[{address}]:{port}"),
            Location::Address(address) if self.name.is_empty() => write!(f, "{address}:{port}"),
            _ if self.name.contains(':') => write!(f, "[{}]:{port}", self.name),
            _ => write!(f, "{}:{port}", self.name),
        }
    }
}

impl Tls {
    fn of(values: &Values, environment: &Environment) -> Result<Self, InvalidAddress> {
        let path = |name| values.filled(name).map(PathBuf::from);
        let or_home = |name, file| path(name).or_else(|| environment.home(file));
        // The system's authorities vouch for anybody, so they are good only together with the host's name.
        let system = values.get("sslrootcert") == Some("system");
        let mode = match values.get("sslmode") {
            None if system => Mode::VerifyFull,
            _ => values.word("sslmode", &MODES)?,
        };
        if system && mode != Mode::VerifyFull {
            return Err(values.wrong("sslrootcert", "system needs sslmode=verify-full"));
        }
        let version = |name, unset| match values.get(name) {
            None => Ok(unset),
            Some(text) => {
                let found = VERSIONS.iter().find(|(word, _)| *word == text.to_lowercase()).map(|(_, version)| *version);
                found.ok_or_else(|| values.wrong(name, "must be TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3"))
            }
        };
        let cert = match values.get("sslcertmode") {
            Some("disable") => None,
            _ => or_home("sslcert", ".postgresql/postgresql.crt"),
        };
        Ok(Self {
            mode,
            root: if system { None } else { or_home("sslrootcert", ".postgresql/root.crt") },
            revoked: [
                // As in libpq, a directory that is named stands for the default file as well.
                if path("sslcrldir").is_some() { path("sslcrl") } else { or_home("sslcrl", ".postgresql/root.crl") },
                path("sslcrldir"),
            ],
            key: cert.as_ref().and_then(|_| or_home("sslkey", ".postgresql/postgresql.key")),
            cert,
            password: Secret(values.get("sslpassword").unwrap_or_default().to_owned()),
            direct: values.word("sslnegotiation", &[("postgres", false), ("direct", true)])?,
            sni: values.word("sslsni", &[("1", true), ("0", false)])?,
            versions: [
                version("ssl_min_protocol_version", Some(SslVersion::TLS1_2))?,
                version("ssl_max_protocol_version", None)?,
            ],
        })
    }
}

#[cfg(test)]
mod tests;
