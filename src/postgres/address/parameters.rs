//! Every parameter that a database URL can have, one row each, and what becomes of it.

use std::fmt;

use super::invalid::InvalidAddress;

/// A parameter, its environment variable, and what becomes of it.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its name, as in the URL.
    pub name: &'static str,
    /// The environment variable that libpq reads for it; empty if there is none.
    pub variable: &'static str,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is used as libpq uses it.
    Taken,
    /// Only these values are used, as libpq uses them; any other is refused with the reason and the remedy.
    Only(&'static [&'static str], &'static str),
    /// It changes nothing here; a log line says so.
    Ignored,
    /// It would mean something, and cannot be done: the reason and the remedy.
    Refused(&'static str),
}

const fn row(name: &'static str, variable: &'static str, fate: Fate) -> Parameter {
    Parameter { name, variable, fate }
}

const fn foreign(name: &'static str) -> Parameter {
    row(name, "", Fate::Ignored)
}

use Fate::{Ignored, Only, Refused, Taken};

/// libpq's parameters, of PostgreSQL 13 to 18, and those that Ecto and other libraries' pools add.
pub const PARAMETERS: &[Parameter] = &[
    row("host", "PGHOST", Taken),
    row("hostaddr", "PGHOSTADDR", Taken),
    row("port", "PGPORT", Taken),
    row("dbname", "PGDATABASE", Taken),
    row("user", "PGUSER", Taken),
    row("password", "PGPASSWORD", Taken),
    row("passfile", "PGPASSFILE", Taken),
    row("service", "PGSERVICE", Taken),
    row("servicefile", "PGSERVICEFILE", Taken),
    row("options", "PGOPTIONS", Taken),
    row("application_name", "PGAPPNAME", Taken),
    row("fallback_application_name", "", Taken),
    row("connect_timeout", "PGCONNECT_TIMEOUT", Taken),
    row("target_session_attrs", "PGTARGETSESSIONATTRS", Taken),
    row("load_balance_hosts", "PGLOADBALANCEHOSTS", Taken),
    row("keepalives", "", Taken),
    row("keepalives_idle", "", Taken),
    row("keepalives_interval", "", Taken),
    row("keepalives_count", "", Taken),
    row("tcp_user_timeout", "", Taken),
    row("channel_binding", "PGCHANNELBINDING", Taken),
    row("sslmode", "PGSSLMODE", Taken),
    row("requiressl", "", Taken),
    row("sslnegotiation", "PGSSLNEGOTIATION", Taken),
    row("sslrootcert", "PGSSLROOTCERT", Taken),
    row("sslcert", "PGSSLCERT", Taken),
    row("sslkey", "PGSSLKEY", Taken),
    row("sslpassword", "", Taken),
    row("sslcrl", "PGSSLCRL", Taken),
    row("sslcrldir", "PGSSLCRLDIR", Taken),
    row("sslsni", "PGSSLSNI", Taken),
    row("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", Taken),
    row("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", Taken),
    row(
        "sslcertmode",
        "PGSSLCERTMODE",
        Only(
            &["disable", "allow"],
            "the exporter cannot tell whether the server asked for its certificate; let pg_hba.conf demand one (cert, or \
             clientcert=verify-full), and leave this out",
        ),
    ),
    row(
        "gssencmode",
        "PGGSSENCMODE",
        Only(&["disable", "prefer"], "the exporter does not speak GSSAPI; encrypt by TLS (sslmode=verify-full)"),
    ),
    row(
        "replication",
        "",
        Only(
            &["", "false", "off", "no", "0"],
            "a connection for replication cannot read tables as the exporter does; leave it out",
        ),
    ),
    row(
        "requirepeer",
        "PGREQUIREPEER",
        Only(
            &[""],
            "the exporter does not look at the user that the server runs as; use a socket in a directory that only this \
             user can write to, and leave this out",
        ),
    ),
    row(
        "require_auth",
        "PGREQUIREAUTH",
        Only(
            &[""],
            "the exporter cannot choose among methods of authentication; channel_binding=require demands SCRAM-SHA-256 \
             over TLS",
        ),
    ),
    row("min_protocol_version", "PGMINPROTOCOLVERSION", Only(&["3.0"], "the exporter speaks version 3.0 alone")),
    row("max_protocol_version", "PGMAXPROTOCOLVERSION", Only(&["3.0", "3.2", "latest"], "it is 3.0, 3.2 or latest")),
    row("scram_client_key", "", Refused("the exporter logs in by password; use database.password_file")),
    row("scram_server_key", "", Refused("the exporter logs in by password; use database.password_file")),
    row("oauth_issuer", "", Refused(OAUTH)),
    row("oauth_client_id", "", Refused(OAUTH)),
    row("oauth_client_secret", "", Refused(OAUTH)),
    row("oauth_scope", "", Refused(OAUTH)),
    // The session's encoding is set at every poll, by that of the database.
    row("client_encoding", "PGCLIENTENCODING", Ignored),
    row("sslcompression", "PGSSLCOMPRESSION", Ignored),
    row("sslkeylogfile", "", Ignored),
    row("krbsrvname", "PGKRBSRVNAME", Ignored),
    row("gsslib", "PGGSSLIB", Ignored),
    row("gssdelegation", "PGGSSDELEGATION", Ignored),
    // Variables without a parameter: libpq sets them in the session. The exporter pins what a poll depends on.
    row("", "PGDATESTYLE", Ignored),
    row("", "PGTZ", Ignored),
    row("", "PGGEQO", Ignored),
    // Ecto's, and JDBC's as libpq takes it.
    row("ssl", "", Taken),
    foreign("pool"),
    foreign("pool_size"),
    foreign("pool_timeout"),
    foreign("pool_count"),
    foreign("timeout"),
    foreign("queue_target"),
    foreign("queue_interval"),
    foreign("prepare"),
    foreign("socket_options"),
    foreign("ownership_timeout"),
    foreign("idle_interval"),
    foreign("show_sensitive_data_on_connection_error"),
    // Prisma's.
    foreign("schema"),
    foreign("pgbouncer"),
    foreign("connection_limit"),
    foreign("socket_timeout"),
    foreign("statement_cache_size"),
    row(
        "sslaccept",
        "",
        Refused("Prisma's word for how certificates are checked; write sslmode=verify-full or require"),
    ),
    row("sslidentity", "", Refused("Prisma's word for a client's certificate; write sslcert and sslkey")),
    // Of Rails, node-postgres, SQLAlchemy, JDBC, pgx, lib/pq and SQLx.
    foreign("adapter"),
    foreign("checkout_timeout"),
    foreign("encoding"),
    foreign("idle_timeout"),
    foreign("max_connections"),
    foreign("prepared_statements"),
    foreign("reaping_frequency"),
    foreign("schema_search_path"),
    foreign("uselibpqcompat"),
    foreign("async_fallback"),
    foreign("prepared_statement_cache_size"),
    foreign("currentSchema"),
    foreign("prepareThreshold"),
    foreign("preparedStatementCacheQueries"),
    foreign("reWriteBatchedInserts"),
    foreign("stringtype"),
    foreign("default_query_exec_mode"),
    foreign("description_cache_capacity"),
    foreign("pool_health_check_period"),
    foreign("pool_max_conn_idle_time"),
    foreign("pool_max_conn_lifetime"),
    foreign("pool_max_conn_lifetime_jitter"),
    foreign("pool_max_conns"),
    foreign("pool_min_conns"),
    foreign("pool_mode"),
    foreign("statement_cache_capacity"),
    foreign("statement_cache_mode"),
    foreign("binary_parameters"),
    foreign("statement-cache-capacity"),
];

const OAUTH: &str = "the exporter does not log in by OAuth; give its role a password or a certificate";

/// A name that no parameter has. It is not shown: it can be a part of the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown(Option<&'static str>);

/// The row of a parameter.
pub fn find(name: &str) -> Result<&'static Parameter, Unknown> {
    let known = || PARAMETERS.iter().filter(|p| !p.name.is_empty());
    known().find(|p| p.name == name).ok_or_else(|| {
        let distance = |p: &Parameter| strsim::damerau_levenshtein(&name.to_lowercase(), &p.name.to_lowercase());
        let nearest = known().map(|p| (distance(p), p.name)).min();
        Unknown(nearest.filter(|(distance, name)| *distance <= name.len() / 4 + 1).map(|(_, name)| name))
    })
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, "is no parameter of a PostgreSQL URL; did you mean {name}?"),
            None => f.write_str(
                "is no parameter of a PostgreSQL URL; leave it out (in a password, ? is written %3F and & %26)",
            ),
        }
    }
}

impl Parameter {
    /// Fails with the reason and the remedy if this value cannot be used.
    pub fn check(&self, value: &str) -> Result<(), InvalidAddress> {
        match self.fate {
            Taken | Ignored => Ok(()),
            Only(values, _) if values.contains(&value) => Ok(()),
            Only(only, why) if only.iter().any(|v| !v.is_empty()) => {
                let only: Vec<&str> = only.iter().copied().filter(|value| !value.is_empty()).collect();
                Err(format!("{} can only be {}: {why}", self.name, only.join(" or ")).into())
            }
            Only(_, why) | Refused(why) => Err(format!("{} is not supported: {why}", self.name).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::process::Command;

    use super::*;

    #[test]
    fn each_name_has_one_row() {
        for of in [|p: &Parameter| p.name, |p: &Parameter| p.variable] {
            let all: Vec<&str> = PARAMETERS.iter().map(of).filter(|name| !name.is_empty()).collect();
            assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len());
        }
    }

    #[test]
    fn a_misspelt_name_is_answered_with_the_right_one() {
        let meant = |name| find(name).map(|p| p.name).map_err(|e| e.0);
        for (wrong, right) in [
            ("slmode", "sslmode"),
            ("sslMode", "sslmode"),
            ("ssl_mode", "sslmode"),
            ("target_session_attr", "target_session_attrs"),
            ("keepalive_idle", "keepalives_idle"),
            ("connect_timout", "connect_timeout"),
            ("usr", "user"),
        ] {
            assert_eq!(meant(wrong), Err(Some(right)), "{wrong}");
        }
        assert_eq!(meant("s3cret"), Err(None));
    }

    /// `psql` is asked about each row that claims to be libpq's, as far as its version knows it.
    #[test]
    fn libpqs_parameters_are_all_here() {
        let psql = |name: &str| {
            let output = Command::new("psql").args(["-X", "-w", &format!("host=/nowhere {name}=")]).output();
            String::from_utf8_lossy(&output.expect("psql, from the package postgresql-client").stderr).into_owned()
        };
        let unknown = |name: &str| psql(name).contains("invalid connection option");
        assert!(unknown("s3cret"));
        let foreign: BTreeSet<&str> = PARAMETERS.iter().skip_while(|p| p.name != "ssl").map(|p| p.name).collect();
        for name in &foreign {
            assert!(unknown(name), "{name} is libpq's");
        }
        // What the oldest libpq that is looked at has.
        for name in ["host", "sslmode", "keepalives_count", "tcp_user_timeout", "requirepeer", "gssencmode", "sslsni"] {
            assert!(!unknown(name) && !foreign.contains(name), "{name}");
        }
    }
}
