//! Why a poll or a source failed: a closed set of reasons, and a text that is safe to show.

use std::fmt;

use tokio_postgres::error::{DbError, ErrorPosition, Severity, SqlState};

use crate::tls_error;

/// The values of the label `reason` of `rsolv_exporter_poll_failures_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No connection could be made.
    Connect,
    /// The server refused the user or the password.
    Auth,
    /// TLS could not be agreed on, or a certificate was refused.
    Tls,
    /// The role may not read something.
    Privilege,
    /// A database, table, column or function does not exist, or the SELECT is not what its definition needs.
    Missing,
    /// A step took too long.
    Timeout,
    /// A lock was not granted in time.
    Lock,
    /// The snapshot is older than the last one.
    Behind,
    /// A standby cancelled the query to go on with recovery.
    Conflict,
    /// The SELECT returned an id twice, or one that was not asked for.
    Duplicate,
    /// The connection broke.
    Connection,
    /// Any other error of the server.
    Query,
    /// The answer was not what the definition promises.
    Decode,
}

impl Reason {
    /// Every reason, so that each counter exists at 0.
    pub const ALL: [Self; 13] = [
        Self::Connect,
        Self::Auth,
        Self::Tls,
        Self::Privilege,
        Self::Missing,
        Self::Timeout,
        Self::Lock,
        Self::Behind,
        Self::Conflict,
        Self::Duplicate,
        Self::Connection,
        Self::Query,
        Self::Decode,
    ];

    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Auth => "auth",
            Self::Tls => "tls",
            Self::Privilege => "privilege",
            Self::Missing => "missing",
            Self::Timeout => "timeout",
            Self::Lock => "lock",
            Self::Behind => "behind",
            Self::Conflict => "conflict",
            Self::Duplicate => "duplicate",
            Self::Connection => "connection",
            Self::Query => "query",
            Self::Decode => "decode",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure. Its text holds neither passwords nor the contents of rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The class.
    pub reason: Reason,
    /// What happened, for people.
    pub message: String,
    /// The server's own words, which can quote rows: for the debug level only.
    pub detail: Option<String>,
    /// What the server advises, where it speaks of the statement.
    pub hint: Option<String>,
    /// Where in the statement the server saw the error, in characters, from 1.
    pub position: Option<u32>,
    /// True if the connection must be dropped.
    pub connection_lost: bool,
    /// True if a policy hides rows of a table from the role.
    pub hides_rows: bool,
}

impl Failure {
    /// A failure seen on this side.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        let connection_lost = matches!(reason, Reason::Connect | Reason::Connection | Reason::Timeout);
        let (detail, hint, position) = (None, None, None);
        Self { reason, message: message.into(), detail, hint, position, connection_lost, hides_rows: false }
    }

    /// The same, with nothing to go on with.
    pub fn losing(mut self) -> Self {
        self.connection_lost = true;
        self
    }

    /// A failure of a statement, or of the connection while it ran.
    pub fn of_query(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => {
                let mut failure = Self::of_server(db, speaks_of_the_statement(db));
                failure.connection_lost = error.is_closed() || ends_session(db);
                failure
            }
            None if error.is_closed() || io_error(error).is_some() => {
                Self::new(Reason::Connection, format!("the connection broke: {}", chain(error)))
            }
            None => Self::new(Reason::Decode, chain(error)),
        }
    }

    /// The server's code for the error (SQLSTATE), if it is one of the server's.
    pub fn code(&self) -> Option<&str> {
        self.message.rsplit_once("(SQLSTATE ")?.1.split(')').next()
    }

    /// A failure to connect.
    pub fn of_connect(error: &tokio_postgres::Error) -> Self {
        let mut failure = match error.as_db_error() {
            // There are no rows yet.
            Some(db) => Self::of_server(db, true),
            // A server that refuses the client's certificate says so after the handshake, in TLS 1.3.
            None if chain(error).contains("TLS") || error_of_openssl(error) => Self::new(Reason::Tls, chain(error)),
            None if chain(error).contains("timed out") => Self::new(Reason::Timeout, chain(error)),
            None if chain(error).contains("password missing") => {
                Self::new(Reason::Auth, "the server wants a password, and none is given")
            }
            None if chain(error).contains("password") || chain(error).contains("authentication") => {
                Self::new(Reason::Auth, chain(error))
            }
            None => Self::new(Reason::Connect, chain(error)),
        };
        if matches!(failure.reason, Reason::Query | Reason::Connection) {
            failure.reason = Reason::Connect;
        }
        failure.connection_lost = true;
        failure
    }

    fn of_server(db: &DbError, shown: bool) -> Self {
        let code = db.code();
        let reason = reason_of(code);
        let text = if shown { db.message() } else { name_of(code) };
        let position = match db.position() {
            Some(ErrorPosition::Original(at)) => Some(*at),
            _ => None,
        };
        Self {
            reason,
            message: format!("{text} (SQLSTATE {}){}", code.code(), remedy(db)),
            detail: Some(db.message().to_owned()),
            hint: db.hint().filter(|_| shown).map(str::to_owned),
            position,
            connection_lost: false,
            hides_rows: is_policy(db),
        }
    }
}

/// True if a pooler wrote this error: a server names the place in its source.
fn is_poolers(db: &DbError) -> bool {
    db.file().is_none() && db.code().code().starts_with("08")
}

/// True if it is about a policy that hides rows. Routines keep their names in every language.
fn is_policy(db: &DbError) -> bool {
    db.code() == &SqlState::INSUFFICIENT_PRIVILEGE && db.routine() == Some("check_enable_rls")
}

/// What to do about an error of PgBouncer's that says nothing to who has not set it up.
fn remedy(db: &DbError) -> &'static str {
    if is_poolers(db) && db.message().contains("statement pooling mode") {
        ": a poll is a transaction; set pool_mode = transaction for this database in PgBouncer"
    } else {
        ""
    }
}

/// True if the server closes the connection after this error, as a standby does to go on with recovery.
fn ends_session(db: &DbError) -> bool {
    // PostgreSQL translates the first severity and not the second, which PgBouncer does not have.
    let fatal = matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic)) || db.severity() == "FATAL";
    fatal || db.code().code().starts_with("57P")
}

/// An error with its causes, which tokio-postgres keeps out of its own text.
fn chain(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    tls_error::shorten(&text)
}

fn error_of_openssl(error: &tokio_postgres::Error) -> bool {
    io_error(error).and_then(std::io::Error::get_ref).is_some_and(|inner| inner.is::<openssl::ssl::Error>())
}

fn io_error(error: &tokio_postgres::Error) -> Option<&std::io::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

fn reason_of(code: &SqlState) -> Reason {
    match code.code() {
        "57014" => Reason::Timeout,
        "55P03" => Reason::Lock,
        "42501" => Reason::Privilege,
        "42P01" | "42703" | "42883" | "42704" | "3F000" | "3D000" => Reason::Missing,
        // A standby cancels with 40001 (serialization failure), or ends the session with 57P01 or 40P01.
        "40001" | "40P01" => Reason::Conflict,
        "53300" | "57P03" => Reason::Connect,
        code if code.starts_with("28") => Reason::Auth,
        code if code.starts_with("08") || code.starts_with("57P") => Reason::Connection,
        _ => Reason::Query,
    }
}

/// True if the server made the text of an error from the statement and the catalog, not from rows.
fn speaks_of_the_statement(db: &DbError) -> bool {
    // A function can raise what it likes, and has a context; a cast such as text::regclass fails without a position.
    if db.where_().is_some() {
        return false;
    }
    let parsing = matches!(db.position(), Some(ErrorPosition::Original(_)));
    match db.code().code() {
        // The right to a role or a setting is missing in other routines, which quote what can come from a row.
        "42501" => is_policy(db) || matches!(db.routine(), Some("aclcheck_error" | "aclcheck_error_col")),
        "42P01" | "42703" | "42883" | "42704" | "42702" | "42601" | "42803" | "42804" | "3F000" => parsing,
        code => code == "53300" || code.starts_with("57P") || is_poolers(db),
    }
}

/// The names of PostgreSQL's error codes (its documentation, appendix A) that an exporter meets.
fn name_of(code: &SqlState) -> &'static str {
    match code.code() {
        "57014" => "query canceled, by statement_timeout or an administrator",
        "55P03" => "lock not available within lock_timeout",
        "40001" => "serialization failure, or a conflict with recovery on a standby",
        "40P01" => "deadlock detected",
        "25006" => "read only transaction",
        "42501" => "insufficient privilege",
        "42P01" => "undefined table",
        "42703" => "undefined column",
        "42883" => "undefined function",
        "42704" => "undefined object",
        "3F000" => "undefined schema",
        "3D000" => "undefined database",
        "25P03" => "idle in transaction session timeout",
        "22003" => "numeric value out of range",
        "22008" => "datetime field overflow",
        "22012" => "division by zero",
        "22023" => "invalid parameter value",
        "22P02" => "invalid text representation",
        "53100" => "disk full",
        "53200" => "out of memory",
        "0A000" => "feature not supported",
        "XX000" => "internal error",
        "XX001" => "data corrupted",
        code => match code.get(..2) {
            Some("08") => "connection exception",
            Some("21") => "cardinality violation",
            Some("22") => "data exception",
            Some("25") => "invalid transaction state",
            Some("42") => "syntax error or access rule violation",
            Some("53") => "insufficient resources",
            Some("54") => "program limit exceeded",
            Some("55") => "object not in prerequisite state",
            Some("57") => "operator intervention",
            Some("58") => "system error",
            _ => "server error",
        },
    }
}
