//! A connection, and the one read-only transaction that a poll makes on it.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, Row, SimpleQueryMessage, SimpleQueryRow};

use super::address::Server;
use super::definition;
use super::failure::{Failure, Reason};
use crate::ledger::rewind::Sequence;
use crate::ledger::{Group, Probe};
use crate::source::Source;
use crate::sql::{self, Columns};

/// A parameter of a statement with its type.
pub type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// How long steps may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timeouts {
    /// `statement_timeout` in the server; this side waits a little longer before it gives the connection up.
    pub statement: Duration,
    /// `lock_timeout` in the server.
    pub lock: Duration,
}

impl Timeouts {
    /// The server should end a statement itself; this is for one that does not answer.
    fn deadline(&self) -> Duration {
        self.statement + Duration::from_secs(2)
    }

    /// The statements that open a transaction.
    pub fn opening(&self) -> String {
        format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
             SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}; \
             SET LOCAL search_path = public, pg_temp; SET LOCAL row_security = off; SET LOCAL timezone = 'UTC'; \
             SET LOCAL datestyle = 'ISO'; SET LOCAL intervalstyle = 'postgres'; \
             SET LOCAL standard_conforming_strings = on; \
             SET LOCAL jit = off; SET LOCAL enable_sort = off; SET LOCAL max_parallel_workers_per_gather = 0",
            self.statement.as_millis(),
            self.lock.as_millis(),
        )
    }
}

/// Where the database stands. Positions of one server only grow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// `pg_snapshot_xmin`: all transactions below have ended.
    pub xmin: i64,
    /// `pg_snapshot_xmax`: no transaction from here on is visible.
    pub xmax: i64,
    /// A standby, which may lag; a primary is the truth whatever its numbers say.
    pub standby: bool,
}

impl Position {
    /// Whether a snapshot taken here can lack what one taken at `last` showed.
    pub fn is_behind(&self, last: &Self) -> bool {
        self.standby && (self.xmax < last.xmax || self.xmin < last.xmin)
    }
}

/// What the beginning of a transaction tells.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Its snapshot.
    pub position: Position,
    /// The database's clock, in seconds since the epoch.
    pub clock: f64,
}

/// A connection and what is known through it.
#[derive(Debug)]
pub struct Session {
    client: Client,
    connection: JoinHandle<()>,
    timeouts: Timeouts,
    /// The columns of each source, and whether its sequence can be read.
    columns: BTreeMap<String, (Columns, bool)>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Closes the socket also when the server does not answer. No cancel request: some poolers do not survive one.
        self.connection.abort();
    }
}

impl Session {
    pub(super) fn new(client: Client, connection: JoinHandle<()>, timeouts: Timeouts) -> Self {
        Self { client, connection, timeouts, columns: BTreeMap::new() }
    }

    /// Whether the connection is known to be gone.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// The client, for statements of one's own inside [`Session::begin`] and [`Session::end`].
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Fails if the server is not of the kind that is wanted.
    pub(super) async fn will_do(&self, wanted: Server) -> Result<(), Failure> {
        let standby = match wanted {
            Server::Any | Server::PreferStandby => return Ok(()),
            Server::Primary => false,
            Server::Standby => true,
        };
        let is_standby = self.begin().await?.position.standby;
        self.end().await?;
        if is_standby == standby {
            return Ok(());
        }
        let (is, wants) = if standby { ("primary", "standby") } else { ("standby", "primary") };
        Err(Failure::new(Reason::Connect, format!("the server is a {is}, and target_session_attrs wants a {wants}")))
    }

    /// Which database this is: the server's system identifier, if the role may know it, and the database's object id;
    /// inside a transaction.
    pub async fn identity(&self) -> Result<String, Failure> {
        let may = self
            .one(
                "SELECT has_function_privilege('pg_control_system()', 'EXECUTE'), \
                 (SELECT oid::int8 FROM pg_database WHERE datname = current_database())",
            )
            .await?;
        let oid: i64 = may.try_get(1).map_err(|e| Failure::of_query(&e))?;
        if !may.try_get(0).unwrap_or(false) {
            return Ok(format!("?/{oid}"));
        }
        let system = self.one("SELECT system_identifier FROM pg_control_system()").await?;
        let system: i64 = system.try_get(0).map_err(|e| Failure::of_query(&e))?;
        Ok(format!("{system}/{oid}"))
    }

    /// Runs one source's part of the transaction; when it fails, the rest of the transaction goes on.
    pub async fn part<T>(
        &mut self,
        source: &Source,
        read: impl AsyncFnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<Result<T, Failure>, Failure> {
        self.batch("SAVEPOINT source").await?;
        let result = read(self).await;
        match &result {
            Err(failure) if failure.connection_lost => return Err(failure.clone()),
            Err(_) => {
                // The columns may have changed: look again next time.
                self.columns.remove(&source.name);
                self.batch("ROLLBACK TO SAVEPOINT source").await?;
            }
            Ok(_) => self.batch("RELEASE SAVEPOINT source").await?,
        }
        Ok(result)
    }

    /// Opens the transaction, and pins what could change the meaning or the cost of a statement.
    pub async fn begin(&self) -> Result<Opening, Failure> {
        // A database without an encoding refuses to send bytes that are not UTF-8 to a client that asks for it.
        let begin = format!(
            "{}; \
             SELECT pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s)::text, pg_is_in_recovery()::text, \
             extract(epoch FROM clock_timestamp())::text, \
             set_config('client_encoding', CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END, true) \
             FROM pg_current_snapshot() AS s",
            self.timeouts.opening(),
        );
        let messages = self.deadline(self.client.simple_query(&begin)).await?;
        let row = messages.iter().find_map(|m| match m {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let text = |i| row.and_then(|row| row.get(i)).unwrap_or_default();
        let broken = |_| Failure::new(Reason::Decode, "the server's answer about its snapshot makes no sense");
        let position = Position {
            xmin: text(0).parse().map_err(broken)?,
            xmax: text(1).parse().map_err(broken)?,
            standby: text(2) == "true",
        };
        let clock = text(3).parse().map_err(|_| Failure::new(Reason::Decode, "the server's clock makes no sense"))?;
        Ok(Opening { position, clock })
    }

    /// Ends the transaction.
    pub async fn end(&self) -> Result<(), Failure> {
        self.batch("COMMIT").await
    }

    /// Runs statements that return nothing; inside a transaction.
    pub async fn batch(&self, statement: &str) -> Result<(), Failure> {
        self.deadline(self.client.batch_execute(statement)).await
    }

    async fn deadline<T>(&self, step: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Failure> {
        match tokio::time::timeout(self.timeouts.deadline(), step).await {
            Ok(result) => result.map_err(|e| Failure::of_query(&e)),
            Err(_) => {
                let limit = humantime::format_duration(self.timeouts.deadline());
                Err(Failure::new(Reason::Timeout, format!("the server did not answer within {limit}")))
            }
        }
    }

    /// Where the ids of a source stand, if its definition and the role's rights allow to tell; inside [`Session::part`].
    pub async fn sequence(&mut self, source: &Source) -> Result<Option<Sequence>, Failure> {
        let Some(name) = source.sequence.as_ref().filter(|_| self.columns.get(&source.name).is_some_and(|c| c.1))
        else {
            return Ok(None);
        };
        // Tables first: TRUNCATE … RESTART IDENTITY locks in this order too, and in the other one both could wait for
        // each other.
        let statement = format!("{}; {}", sql::locks(source), sql::sequence(name));
        let rows = self.text(&statement).await.map_err(|failure| in_file(source, None, failure))?;
        let number = |i: usize| -> Result<Option<&str>, Failure> {
            let row = rows.first().ok_or_else(|| Failure::new(Reason::Decode, "the sequence has no row"))?;
            row.try_get(i).map_err(|e| Failure::of_query(&e))
        };
        let wrong = |_| Failure::new(Reason::Decode, "the sequence's answer makes no sense");
        Ok(Some(Sequence {
            last: number(0)?.unwrap_or_default().parse().map_err(wrong)?,
            oid: number(1)?.unwrap_or_default().parse().map_err(wrong)?,
            file: number(2)?.unwrap_or_default().parse().map_err(wrong)?,
            table_file: number(3)?.map(str::parse).transpose().map_err(wrong)?,
        }))
    }

    /// Makes sure of the columns of a source, and whether its sequence can be read; inside [`Session::part`].
    pub async fn prepare(&mut self, source: &Source) -> Result<(), Failure> {
        if self.columns.contains_key(&source.name) {
            return Ok(());
        }
        let columns = self.describe(source).await?;
        definition::examine(self, source, &columns).await?.refusal()?;
        let readable = match &source.sequence {
            Some(name) => self.may_read_sequence(name).await?,
            None => false,
        };
        self.columns.insert(source.name.clone(), (columns, readable));
        Ok(())
    }

    /// Whether a sequence exists and the role may read it.
    pub async fn may_read_sequence(&self, name: &str) -> Result<bool, Failure> {
        let name = sql::literal(name);
        let row =
            self.one(&format!("SELECT coalesce(has_sequence_privilege(to_regclass({name}), 'SELECT'), false)")).await?;
        row.try_get(0).map_err(|e| Failure::of_query(&e))
    }

    /// Reads a source that is [`Session::prepare`]d.
    pub async fn read(&mut self, source: &Source, probe: &Probe) -> Result<Vec<Group>, Failure> {
        match self.columns.get(&source.name) {
            Some((columns, _)) => self.answer(source, columns, probe).await,
            None => Err(Failure::new(Reason::Decode, format!("{} was not prepared", source.name))),
        }
    }

    /// Runs the statement of a poll; inside a transaction.
    pub async fn answer(&self, source: &Source, columns: &Columns, probe: &Probe) -> Result<Vec<Group>, Failure> {
        let (lo, hi): (Vec<i64>, Vec<i64>) = probe.ranges().into_iter().unzip();
        let statement = sql::poll(source, columns, probe);
        let parameters: [Parameter<'_>; 2] = [(&lo, Type::INT8_ARRAY), (&hi, Type::INT8_ARRAY)];
        // An unnamed statement with given types: prepared ones break behind a pooler in transaction mode.
        let query = self.client.query_typed(&statement, &parameters);
        let rows = self.deadline(query).await.map_err(|failure| in_file(source, None, failure))?;
        rows.iter().map(|row| decode(source, row)).collect()
    }

    /// About how many rows the SELECT has, as the planner sees it, and the largest id; inside a transaction.
    pub async fn extent(&self, source: &Source) -> Result<(i64, Option<i64>), Failure> {
        let explain = format!("EXPLAIN (FORMAT JSON) SELECT id FROM (\n{}\n) AS execution", source.sql);
        let plan = self.deadline(self.client.simple_query(&explain)).await?;
        let plan = plan.iter().find_map(|m| match m {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let plan: Option<serde_json::Value> = plan.and_then(|text| serde_json::from_str(text).ok());
        let rows = plan.and_then(|plan| plan[0]["Plan"]["Plan Rows"].as_f64()).unwrap_or_default();
        let newest = self.one(&format!("SELECT max(id)::int8 FROM (\n{}\n) AS execution", source.sql)).await?;
        let newest = newest.try_get(0).map_err(|e| Failure::of_query(&e))?;
        Ok((rows as i64, newest))
    }

    /// Runs a statement; inside a transaction.
    pub async fn rows(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Failure> {
        self.deadline(self.client.query_typed(statement, parameters)).await
    }

    /// Runs a statement that returns no rows, and says how many it was about; inside a transaction.
    pub async fn execute(&self, statement: &str) -> Result<u64, Failure> {
        self.deadline(self.client.execute_typed(statement, &[])).await
    }

    /// Runs a statement without parameters and returns its rows as text; inside a transaction.
    pub async fn text(&self, statement: &str) -> Result<Vec<SimpleQueryRow>, Failure> {
        let messages = self.deadline(self.client.simple_query(statement)).await?;
        let row = |message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    /// Runs a statement without parameters that returns one row.
    pub async fn one(&self, statement: &str) -> Result<Row, Failure> {
        let rows = self.rows(statement, &[]).await?;
        rows.into_iter().next().ok_or_else(|| Failure::new(Reason::Decode, "no row where there should be one"))
    }

    /// The columns of the SELECT and their types; inside a transaction.
    pub async fn describe(&self, source: &Source) -> Result<Columns, Failure> {
        let (statement, before) = sql::names(source);
        let names = self.one(&statement).await.map_err(|failure| in_file(source, Some(before), failure))?;
        let names: Vec<String> = names.try_get(0).map_err(|e| Failure::of_query(&e))?;
        let names = definition::unambiguous(source, &names)?;
        let types =
            self.rows(&sql::types(source, &names), &[]).await.map_err(|failure| in_file(source, None, failure))?;
        let types = types.iter().map(definition::column).collect::<Result<Vec<_>, _>>()?;
        Ok(names.into_iter().cloned().zip(types).collect())
    }
}

/// Says where in the SQL file an error is, when the server says where in the statement.
pub fn in_file(source: &Source, before: Option<usize>, mut failure: Failure) -> Failure {
    let line = before
        .zip(failure.position)
        .and_then(|(before, at)| (at as usize).checked_sub(before + 1))
        .map(|offset| 1 + source.sql.chars().take(offset).filter(|&c| c == '\n').count());
    failure.message = match line {
        Some(line) => format!("{}.sql, line {line}: {}", source.name, failure.message),
        None => format!("{}.sql: {}", source.name, failure.message),
    };
    failure
}

/// Text whose bytes need not be UTF-8, as in a database with the encoding SQL_ASCII.
#[derive(Debug)]
pub struct Lossy(pub String);

impl<'a> FromSql<'a> for Lossy {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(String::from_utf8_lossy(raw).into_owned()))
    }

    fn accepts(kind: &Type) -> bool {
        <&str as FromSql>::accepts(kind)
    }
}

fn decode(source: &Source, row: &Row) -> Result<Group, Failure> {
    let wrong = |e: tokio_postgres::Error| Failure::new(Reason::Decode, format!("{}: {e}", source.name));
    let label = |(i, column): (usize, &String)| -> Result<String, Failure> {
        let text: Option<Lossy> = row.try_get(i).map_err(wrong)?;
        Ok(source.label(column, text.as_ref().map(|text| text.0.as_str())))
    };
    let mut labels = source.labels.iter().chain(&source.by).enumerate();
    let numbers = |i: usize| -> Result<Vec<u64>, Failure> {
        let numbers: Vec<i64> = row.try_get(i).map_err(wrong)?;
        Ok(numbers.into_iter().map(i64::unsigned_abs).collect())
    };
    let at = source.labels.len() + source.by.len();
    let group = Group {
        set: labels.by_ref().take(source.labels.len()).map(label).collect::<Result<_, _>>()?,
        by: labels.map(label).collect::<Result<_, _>>()?,
        done: row.try_get(at).map_err(wrong)?,
        known: row.try_get(at + 1).map_err(wrong)?,
        ids: row.try_get(at + 2).map_err(wrong)?,
        newest: row.try_get(at + 3).map_err(wrong)?,
        counts: numbers(at + 4)?,
        sums: row.try_get(at + 5).map_err(wrong)?,
        rejected: numbers(at + 6)?,
    };
    let fits = group.counts.len() == source.counts.len()
        && group.sums.len() == source.sums.len()
        && group.rejected.len() == source.values.len();
    if fits {
        Ok(group)
    } else {
        Err(Failure::new(Reason::Decode, format!("{}: a row of the wrong shape", source.name)))
    }
}
