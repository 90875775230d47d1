//! What a database URL says: libpq's parameters, and those that Ecto adds to the platform's URLs.

use std::path::PathBuf;
use std::str::FromStr;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, TargetSessionAttrs};

/// A parsed URL.
#[derive(Clone)]
pub struct Address {
    /// Hosts, user, database, password and what else tokio-postgres knows.
    pub config: Config,
    /// Whether and how TLS is used.
    pub tls: Tls,
    /// Which of several servers will do.
    pub server: Server,
}

/// `sslmode` and the files that go with it, as libpq defines them (PostgreSQL documentation, 34.19).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// How much is demanded.
    pub mode: Mode,
    /// `sslrootcert`: the certificates that are trusted; `system` or none for the system's.
    pub root: Option<PathBuf>,
    /// `sslcert`: the client's certificate.
    pub cert: Option<PathBuf>,
    /// `sslkey`: the client's key.
    pub key: Option<PathBuf>,
}

/// `sslmode`. In each the certificate has to be a trusted one when `sslrootcert` is set, as libpq has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Never TLS.
    Disable,
    /// TLS if the server wants no connection without it.
    Allow,
    /// TLS if the server offers it, and without TLS if that does not work.
    #[default]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Server {
    /// The first that answers.
    #[default]
    Any,
    /// One that is not in recovery.
    Primary,
    /// One that is in recovery.
    Standby,
    /// A standby, or else any.
    PreferStandby,
}

/// Parameters that mean nothing here: of Ecto and Postgrex, and some of libpq.
const IGNORED: [&str; 13] = [
    "pool",
    "pool_size",
    "pool_timeout",
    "pool_count",
    "timeout",
    "queue_target",
    "queue_interval",
    "prepare",
    "socket_options",
    "sslcompression",
    "fallback_application_name",
    "krbsrvname",
    "gsslib",
];

/// libpq's parameters that would mean something; a connection without them could be another one than is wanted.
const REFUSED: [&str; 13] = [
    "client_encoding",
    "passfile",
    "service",
    "sslpassword",
    "sslcrl",
    "sslcrldir",
    "sslcertmode",
    "sslsni",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "requirepeer",
    "require_auth",
    "gssdelegation",
];

impl Address {
    /// Parses `postgres://`, `postgresql://` or `ecto://` URLs, or libpq's `key=value` pairs. No error quotes a value.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let is_url = ["postgres://", "postgresql://", "ecto://"].iter().any(|scheme| text.starts_with(scheme));
        let (base, parameters) = if is_url { split_url(text)? } else { (String::new(), split_pairs(text)?) };
        let mut address = Self { config: Config::new(), tls: Tls::default(), server: Server::Any };
        let mut rest = Vec::new();
        // Without sslmode: Ecto's `ssl` says what it can. And the system's authorities vouch for anybody, so that, as in
        // libpq, they are good only together with the host's name.
        let has = |key: &str, value: &str| parameters.iter().any(|(k, v)| k == key && v == value);
        let system = has("sslrootcert", "system");
        address.tls.mode = match has("ssl", "true") {
            _ if system => Mode::VerifyFull,
            true => Mode::Require,
            false => Mode::default(),
        };
        for (key, value) in parameters {
            if !address.take(&key, &value)? {
                rest.push((key, value));
            }
        }
        if system && address.tls.mode != Mode::VerifyFull {
            return Err("sslrootcert=system needs sslmode=verify-full".to_owned());
        }
        let text = if is_url { join_url(&base, &rest) } else { join_pairs(&rest) };
        address.config = Config::from_str(&text).map_err(|e| explain(&e))?;
        if address.config.get_hosts().is_empty() && address.config.get_hostaddrs().is_empty() {
            return Err("names no host".to_owned());
        }
        if address.config.get_user().is_none() {
            return Err("names no user".to_owned());
        }
        address.config.application_name("rsolv-exporter").target_session_attrs(TargetSessionAttrs::Any);
        // As in libpq, TLS is for TCP only.
        let is_socket = address.config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        if is_socket && !address.config.get_hosts().is_empty() {
            address.tls.mode = Mode::Disable;
        }
        if address.config.get_hosts().is_empty() {
            // The driver wants a name for TLS.
            let addresses: Vec<String> = address.config.get_hostaddrs().iter().map(ToString::to_string).collect();
            addresses.iter().for_each(|a| _ = address.config.host(a));
        }
        Ok(address)
    }

    /// Takes a parameter that tokio-postgres does not know, or knows less of.
    fn take(&mut self, key: &str, value: &str) -> Result<bool, String> {
        let path = || Some(PathBuf::from(value));
        match key {
            "sslmode" => self.tls.mode = mode(value)?,
            "ssl" => {}
            "sslrootcert" => self.tls.root = path().filter(|p| p.as_os_str() != "system"),
            "sslcert" => self.tls.cert = path(),
            "sslkey" => self.tls.key = path(),
            "target_session_attrs" => {
                self.server = match value {
                    "any" => Server::Any,
                    "primary" | "read-write" => Server::Primary,
                    "standby" | "read-only" => Server::Standby,
                    "prefer-standby" => Server::PreferStandby,
                    _ => {
                        return Err("target_session_attrs must be any, read-write, read-only, primary, standby or \
                                    prefer-standby"
                            .to_owned());
                    }
                }
            }
            "gssencmode" if value != "require" => {}
            "gssencmode" => return Err("gssencmode=require is not supported".to_owned()),
            key if REFUSED.contains(&key) => return Err(format!("the parameter {key} is not supported")),
            key => return Ok(IGNORED.contains(&key)),
        }
        Ok(true)
    }
}

fn mode(text: &str) -> Result<Mode, String> {
    Ok(match text {
        "disable" => Mode::Disable,
        "allow" => Mode::Allow,
        "prefer" => Mode::Prefer,
        "require" => Mode::Require,
        "verify-ca" => Mode::VerifyCa,
        "verify-full" => Mode::VerifyFull,
        _ => return Err("sslmode must be disable, allow, prefer, require, verify-ca or verify-full".to_owned()),
    })
}

/// The parser's error, if it quotes nothing: what it quotes can be a part of the password.
fn explain(error: &tokio_postgres::Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let cause = if cause.contains(['`', '"', '\'']) || cause.is_empty() { String::new() } else { format!(": {cause}") };
    format!("is no PostgreSQL URL (postgres://USER@HOST:PORT/DATABASE){cause}")
}

type Parameters = Vec<(String, String)>;

fn split_url(text: &str) -> Result<(String, Parameters), String> {
    let text = text.strip_prefix("ecto://").map_or_else(|| text.to_owned(), |rest| format!("postgres://{rest}"));
    let (base, query) = text.split_once('?').unwrap_or((&text, ""));
    // The driver would end the password at the first, and the rest of it would be shown as the host or the database.
    if base.matches('@').count() > 1 {
        return Err("has more than one @: percent-encode each @ of the password as %40".to_owned());
    }
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').ok_or("a parameter in the URL has no value")?;
        Ok((decode(key)?, decode(value)?))
    };
    let parameters = query.split('&').filter(|p| !p.is_empty()).map(pair).collect::<Result<_, String>>()?;
    Ok((base.to_owned(), parameters))
}

fn join_url(base: &str, parameters: &Parameters) -> String {
    let encode = |text: &str| text.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
    let query: Vec<String> = parameters.iter().map(|(k, v)| format!("{k}={}", encode(v))).collect();
    if query.is_empty() { base.to_owned() } else { format!("{base}?{}", query.join("&")) }
}

fn decode(text: &str) -> Result<String, String> {
    let broken = "a parameter in the URL is not percent-encoded as it should be";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        rest = more;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let hex = rest.get(..2).and_then(|hex| str::from_utf8(hex).ok());
        bytes.push(hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).ok_or(broken)?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| broken.to_owned())
}

/// `key=value key='quo\'ted'`, as libpq has it (34.1.1.1).
fn split_pairs(text: &str) -> Result<Parameters, String> {
    let broken = || "is no PostgreSQL URL (postgres://USER@HOST:PORT/DATABASE) and no list of key=value".to_owned();
    let mut parameters = Vec::new();
    let mut chars = text.trim_start().chars().peekable();
    while chars.peek().is_some() {
        let key: String = std::iter::from_fn(|| chars.next_if(|c| *c != '=' && !c.is_whitespace())).collect();
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if key.is_empty() || chars.next() != Some('=') {
            return Err(broken());
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                Some('\\') => value.extend(chars.next()),
                Some('\'') if quoted => break,
                None if quoted => return Err(broken()),
                None => break,
                Some(c) if c.is_whitespace() && !quoted => break,
                Some(c) => value.push(c),
            }
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        parameters.push((key, value));
    }
    Ok(parameters)
}

fn join_pairs(parameters: &Parameters) -> String {
    let quote = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    parameters.iter().map(|(k, v)| format!("{k}={} ", quote(v))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn urls_as_the_platform_writes_them() {
        let address = parse("ecto://app:p%40ss@db.example:5433/rsolv?ssl=true&pool_size=10");
        assert_eq!(address.config.get_password(), Some(&b"p@ss"[..]));
        assert_eq!((address.config.get_ports(), address.tls.mode), (&[5433][..], Mode::Require));
    }

    #[test]
    fn sslmode_says_more_than_ssl() {
        let mode = |parameters: &str| parse(&format!("ecto://u@h/d?{parameters}")).tls.mode;
        assert_eq!((mode(""), mode("ssl=false"), mode("ssl=true")), (Mode::Prefer, Mode::Prefer, Mode::Require));
        assert_eq!(mode("sslmode=verify-full&ssl=true"), Mode::VerifyFull);
        assert_eq!(mode("ssl=true&sslmode=disable"), Mode::Disable);
    }

    #[test]
    fn the_systems_authorities_are_trusted_with_a_name_only() {
        assert_eq!(parse("postgres://u@h/d?sslrootcert=system").tls.mode, Mode::VerifyFull);
        assert_eq!(parse("postgres://u@h/d?sslrootcert=system&sslmode=verify-full").tls.mode, Mode::VerifyFull);
        assert!(Address::parse("postgres://u@h/d?sslmode=verify-ca&sslrootcert=system").is_err());
    }

    #[test]
    fn libpqs_parameters() {
        let address = parse(
            "postgresql://u@a:1,b:2/d?sslmode=verify-full&sslrootcert=%2Fr%20oot.crt&sslcert=c&sslkey=k\
             &target_session_attrs=read-write&options=-c%20geqo%3Doff",
        );
        let tls = Tls {
            mode: Mode::VerifyFull,
            root: Some("/r oot.crt".into()),
            cert: Some("c".into()),
            key: Some("k".into()),
        };
        assert_eq!((address.tls, address.server), (tls, Server::Primary));
        assert_eq!((address.config.get_hosts().len(), address.config.get_options()), (2, Some("-c geqo=off")));
    }

    #[test]
    fn pairs_with_quotes() {
        let address = parse(r"host=h  user = 'it\'s me' password='a b\\c' dbname=d sslmode=verify-ca");
        assert_eq!(address.config.get_user(), Some("it's me"));
        assert_eq!(address.config.get_password(), Some(&br"a b\c"[..]));
        assert_eq!(address.tls.mode, Mode::VerifyCa);
    }

    #[test]
    fn what_is_not_supported_is_named() {
        assert_eq!(
            Address::parse("postgres://u@h/d?sslcrl=x").err().as_deref(),
            Some("the parameter sslcrl is not supported")
        );
        assert_eq!(
            parse("postgres://u@h/d?gssencmode=disable&sslcompression=0&pool_size=3").config.get_dbname(),
            Some("d")
        );
    }

    #[test]
    fn sockets_have_no_tls() {
        assert_eq!(parse("postgres://u@%2Frun%2Fpostgresql/d?sslmode=require").tls.mode, Mode::Disable);
        assert_eq!(parse("host=/run/postgresql user=u sslmode=require").tls.mode, Mode::Disable);
    }

    #[test]
    fn an_at_sign_is_encoded_in_the_password() {
        assert_eq!(
            Address::parse("postgres://u:p@ss@h/d").err().as_deref(),
            Some("has more than one @: percent-encode each @ of the password as %40")
        );
        let address = parse("postgres://u:p%40ss@h/d?application_name=a@b");
        assert_eq!((address.config.get_password(), address.config.get_hosts().len()), (Some(&b"p@ss"[..]), 1));
    }

    #[test]
    fn no_error_quotes_a_value() {
        for text in [
            "postgres://app:s3cret@db:notaport/x",
            "s3cret",
            "postgres://u:s3cret@h/db?s3cret=1",
            "postgres://u:x@h/db?s3cret",
            "mysql://s3cret",
            "host=h password='s3cret",
            "host=h s3cret=1 user=u",
            "postgres://u@h/d?sslmode=s3cret",
            "postgres://u@h/d?target_session_attrs=s3cret",
            "postgres://u@h/d?sslrootcert=s3cret%zz",
            "postgres:///s3cret",
            "postgres://u:Hunter@s3cret@127.0.0.1:1/db",
            "postgres://u:Hunter@s3cret/s3cret@127.0.0.1:1/db",
            "ecto://u:Hunter@s3cret@s3cret@h/db?pool_size=1",
        ] {
            let error = Address::parse(text).err().unwrap_or_else(|| panic!("{text} is accepted"));
            assert!(!error.contains("s3cret"), "{text}: {error}");
        }
    }
}
