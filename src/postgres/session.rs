//! A connection, and the one read-only transaction that a poll makes on it.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, Row, SimpleQueryMessage, SimpleQueryRow};

use super::address::Server;
use super::definition;
use super::failure::{Failure, Reason};
use super::identity::ServerId;
use crate::ledger::decimal::Decimal;
use crate::ledger::evidence::{Evidence, Stamp};
use crate::ledger::frontier::{Range, ReadPlan};
use crate::ledger::witness::Mark;
use crate::ledger::{ApplyError, Group, Seen, cut};
use crate::source::Source;
use crate::sql::{self, Columns};

/// A parameter of a statement with its type.
pub type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// How long steps may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timeouts {
    /// For a connection, and for the first answer of a poll on one that is kept: a server that hangs shows there.
    pub connect: Duration,
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
    /// When the server was started, in microseconds since the epoch.
    pub started: i64,
}

/// What a session knows of a source.
#[derive(Clone, Debug, Default)]
struct Prepared {
    columns: Columns,
    /// Whether its sequence can be read.
    sequence: bool,
    /// The object ids of the tables that it reads.
    relations: Vec<u32>,
}

/// For how long, and on what conditions, a connection is kept.
#[derive(Debug)]
pub struct Lease {
    /// The server, for people.
    pub server: String,
    /// What the server has to be.
    pub wanted: Server,
    /// When it is too old.
    pub until: Instant,
}

/// A connection and what is known through it.
#[derive(Debug)]
pub struct Session {
    client: Client,
    connection: JoinHandle<()>,
    timeouts: Timeouts,
    lease: Lease,
    prepared: BTreeMap<String, Prepared>,
    /// Which server this is, and when it was started; a pooler can change it under the connection.
    server: Option<(i64, bool, ServerId)>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Closes the socket also when the server does not answer. No cancel request: some poolers do not survive one.
        self.connection.abort();
    }
}

impl Session {
    pub(super) fn new(client: Client, connection: JoinHandle<()>, timeouts: Timeouts, lease: Lease) -> Self {
        Self { client, connection, timeouts, lease, prepared: BTreeMap::new(), server: None }
    }

    /// True if the connection is known to be gone, or has reached `database.max_lifetime`.
    pub fn is_over(&self) -> bool {
        self.client.is_closed() || Instant::now() >= self.lease.until
    }

    /// True if a server that stands there is what `target_session_attrs` asked for when the connection was made.
    pub fn fits(&self, position: &Position) -> bool {
        match self.lease.wanted {
            Server::Any | Server::PreferStandby => true,
            Server::Primary => !position.standby,
            Server::Standby => position.standby,
        }
    }

    /// The server, for people.
    pub fn name(&self) -> &str {
        &self.lease.server
    }

    /// The client, for statements of one's own inside [`Session::begin`] and [`Session::end`].
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Which server and database this is; inside a transaction that began with `opening`.
    pub async fn server(&mut self, opening: &Opening) -> Result<ServerId, Failure> {
        let now = (opening.started, opening.position.standby);
        if let Some((started, standby, server)) = &self.server
            && (*started, *standby) == now
        {
            return Ok(server.clone());
        }
        let server = ServerId { timeline: self.timeline(opening.position.standby).await?, ..self.who().await? };
        self.server = Some((now.0, now.1, server.clone()));
        Ok(server)
    }

    /// The same without the timeline, asked anew; inside a transaction.
    pub async fn who(&self) -> Result<ServerId, Failure> {
        let may = self
            .one(
                "SELECT has_function_privilege('pg_control_system()', 'EXECUTE'), \
                 (SELECT oid::int8 FROM pg_database WHERE datname = current_database())",
            )
            .await?;
        let oid: i64 = may.try_get(1).map_err(|e| Failure::of_query(&e))?;
        let mut server = ServerId { database: oid.to_string(), ..ServerId::default() };
        if may.try_get(0).unwrap_or(false) {
            let system = self.one("SELECT system_identifier FROM pg_control_system()").await?;
            let system: i64 = system.try_get(0).map_err(|e| Failure::of_query(&e))?;
            server.system = Some(system.to_string());
        }
        Ok(server)
    }

    /// The timeline of a primary, which changes with every failover; services that hide it refuse the functions.
    async fn timeline(&self, standby: bool) -> Result<Option<i64>, Failure> {
        if standby {
            return Ok(None);
        }
        let timeline = self.told("SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)").await?;
        Ok(timeline.and_then(|text| i64::from_str_radix(&text, 16).ok()))
    }

    /// How far the snapshot lags behind the primary, in seconds, as far as the server knows; inside a transaction that
    /// began with `opening`.
    ///
    /// A standby that follows its primary and has replayed all that it was sent lags behind nothing, however long ago the
    /// newest commit was.
    pub async fn snapshot_age(&self, opening: &Opening) -> Result<Option<f64>, Failure> {
        if !opening.position.standby {
            return Ok(Some(0.0));
        }
        let age = self.told(
            "SELECT CASE WHEN pg_is_in_recovery() AND (pg_is_wal_replay_paused() \
             OR pg_last_wal_replay_lsn() IS DISTINCT FROM pg_last_wal_receive_lsn() \
             OR NOT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE pid IS NOT NULL)) \
             THEN greatest(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0) ELSE 0 END",
        );
        Ok(age.await?.and_then(|text| text.parse().ok()))
    }

    /// What the server says to a question that it may refuse to answer; inside a transaction.
    async fn told(&self, question: &str) -> Result<Option<String>, Failure> {
        match self.text(&format!("SAVEPOINT question; {question}; RELEASE SAVEPOINT question")).await {
            Ok(rows) => Ok(rows.first().and_then(|row| row.get(0)).map(str::to_owned)),
            Err(failure) if failure.connection_lost => Err(failure),
            Err(_) => {
                self.batch("ROLLBACK TO SAVEPOINT question").await?;
                Ok(None)
            }
        }
    }

    /// Which database this is, see [`ServerId::identity`]; inside a transaction.
    pub async fn identity(&self) -> Result<String, Failure> {
        Ok(self.who().await?.identity())
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
                self.prepared.remove(&source.name);
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
             trunc(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::int8::text, \
             set_config('client_encoding', CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END, true) \
             FROM pg_current_snapshot() AS s",
            self.timeouts.opening(),
        );
        let messages = self.within(self.timeouts.connect, self.client.simple_query(&begin)).await?;
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
        // Unknown where a service hides it.
        let started = text(4).parse().unwrap_or_default();
        Ok(Opening { position, clock, started })
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
        self.within(self.timeouts.deadline(), step).await
    }

    async fn within<T>(
        &self,
        limit: Duration,
        step: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(limit, step).await {
            Ok(result) => result.map_err(|e| Failure::of_query(&e)),
            Err(_) => {
                let limit = humantime::format_duration(limit);
                Err(Failure::new(Reason::Timeout, format!("the server did not answer within {limit}")))
            }
        }
    }

    /// What tells which table this is, beside its rows, and whether a table was rewritten after the transaction's
    /// snapshot was taken; inside [`Session::part`]. A standby shows a sequence that is ahead of the truth.
    pub async fn evidence(
        &mut self,
        source: &Source,
        opening: &Opening,
        server: &ServerId,
    ) -> Result<(Evidence, bool), Failure> {
        let prepared = self.prepared(source)?;
        let sequence = source.sequence.as_deref().filter(|_| prepared.sequence && !opening.position.standby);
        let rows = self.text(&sql::evidence(&prepared.relations, sequence)).await;
        let rows = rows.map_err(|failure| in_file(source, None, failure))?;
        let row = rows.first().ok_or_else(|| Failure::new(Reason::Decode, "the tables' files have no row"))?;
        let are_there = row.try_get(5).map_err(|e| Failure::of_query(&e))?;
        if are_there != Some(prepared.relations.len().to_string().as_str()) {
            // One was dropped or has another name: look again what the SELECT reads.
            self.prepared.remove(&source.name);
            return Ok((Evidence::default(), true));
        }
        let text = |i: usize| row.try_get(i).map_err(|e| Failure::of_query(&e));
        let number = |i: usize| -> Result<Option<i64>, Failure> {
            let wrong = |_| Failure::new(Reason::Decode, "the sequence's answer makes no sense");
            text(i)?.map(str::parse).transpose().map_err(wrong)
        };
        let stamp = Stamp {
            system: server.system.clone(),
            database: server.database.clone(),
            timeline: server.timeline,
            started: opening.started,
            relations: text(1)?.unwrap_or_default().to_owned(),
            sequence: number(3)?.zip(number(4)?),
        };
        let evidence = Evidence {
            stamp,
            last: number(2)?,
            xmin: opening.position.xmin,
            xmax: opening.position.xmax,
            xids_fell: false,
            now: (opening.clock * 1e6) as i64,
        };
        Ok((evidence, number(0)?.is_some_and(|rewritten| rewritten > 0)))
    }

    /// The rows that are there under these ids; it locks the tables, also when there are none. Inside [`Session::part`].
    pub async fn witnesses(&self, source: &Source, ids: &[i64]) -> Result<BTreeMap<i64, Mark>, Failure> {
        if ids.is_empty() {
            self.batch(&sql::locks(source)).await.map_err(|failure| in_file(source, None, failure))?;
            return Ok(BTreeMap::new());
        }
        let rows = self.rows(&sql::witnesses(source), &[(&ids, Type::INT8_ARRAY)]).await;
        let rows = rows.map_err(|failure| in_file(source, None, failure))?;
        let wrong = |e: tokio_postgres::Error| Failure::new(Reason::Decode, format!("{}: {e}", source.name));
        let mut marks = BTreeMap::new();
        for row in &rows {
            let values = labels(source, source.row_labels(), row, 2)?;
            let id: i64 = row.try_get(0).map_err(wrong)?;
            if marks.insert(id, Mark::new(row.try_get(1).map_err(wrong)?, &values)).is_some() {
                let error = ApplyError::Duplicate(id);
                return Err(Failure::new(Reason::Duplicate, format!("{}.sql: {error}", source.name)));
            }
        }
        Ok(marks)
    }

    /// Which ids of these ranges (inclusive) are there, at most `limit` of each; inside [`Session::part`].
    pub async fn seen(&self, source: &Source, ranges: &[(i64, i64)], limit: usize) -> Result<Vec<Seen>, Failure> {
        let (lo, hi): (Vec<i64>, Vec<i64>) = ranges.iter().copied().unzip();
        let parameters: [Parameter<'_>; 2] = [(&lo, Type::INT8_ARRAY), (&hi, Type::INT8_ARRAY)];
        let rows = self.rows(&sql::watch(source, limit), &parameters).await;
        let rows = rows.map_err(|failure| in_file(source, None, failure))?;
        let wrong = |e: tokio_postgres::Error| Failure::new(Reason::Decode, format!("{}: {e}", source.name));
        let open = source.open_labels();
        // Infinite times are none: nothing is older, or younger, than they are.
        let times = |row: &Row, i: usize| -> Result<Vec<Option<f64>>, Failure> {
            let times: Option<Vec<Option<f64>>> = row.try_get(i).map_err(wrong)?;
            Ok(times.into_iter().flatten().map(|time| time.filter(|time| time.is_finite())).collect())
        };
        let seen = |row: &Row| -> Result<Seen, Failure> {
            Ok(Seen {
                open: labels(source, open.iter().copied(), row, 0)?,
                done: row.try_get(open.len()).map_err(wrong)?,
                ids: row.try_get(open.len() + 1).map_err(wrong)?,
                known: row.try_get(open.len() + 2).map_err(wrong)?,
                since: (0..source.since.len()).map(|i| times(row, open.len() + 3 + i)).collect::<Result<_, _>>()?,
            })
        };
        rows.iter().map(seen).collect()
    }

    /// How many tables a source reads, each partition as one.
    pub fn tables(&self, source: &Source) -> u64 {
        self.prepared.get(&source.name).map_or(1, |prepared| prepared.relations.len() as u64)
    }

    /// The ids in ranges, at most `limit` of each, each as a range of its own, in order; inside [`Session::part`].
    pub async fn ids(&self, source: &Source, ranges: &[Range], limit: usize) -> Result<Vec<Range>, Failure> {
        let (lo, hi, until) = arrays(ranges);
        let parameters =
            [(&lo as _, Type::INT8_ARRAY), (&hi as _, Type::INT8_ARRAY), (&until as _, Type::FLOAT8_ARRAY)];
        let rows = self.rows(&sql::ids(source, limit), &parameters).await;
        let rows = rows.map_err(|failure| in_file(source, None, failure))?;
        let id = |row: &Row| Ok((row.try_get(0)?, row.try_get(0)?, row.try_get(1)?));
        let ids = rows.iter().map(id).collect::<Result<Vec<Range>, tokio_postgres::Error>>();
        let mut ids = ids.map_err(|e| Failure::new(Reason::Decode, format!("{}: {e}", source.name)))?;
        ids.sort_unstable_by_key(|id| id.0);
        Ok(ids)
    }

    fn prepared(&self, source: &Source) -> Result<&Prepared, Failure> {
        let missing = || Failure::new(Reason::Decode, format!("{} was not prepared", source.name));
        self.prepared.get(&source.name).ok_or_else(missing)
    }

    /// Makes sure of the columns of a source, whether its sequence can be read, and which tables it reads; inside
    /// [`Session::part`].
    pub async fn prepare(&mut self, source: &Source) -> Result<(), Failure> {
        if self.prepared.contains_key(&source.name) {
            return Ok(());
        }
        let columns = self.describe(source).await?;
        definition::examine(self, source, &columns).await?.refusal()?;
        let sequence = match &source.sequence {
            Some(name) => self.may_read_sequence(name).await?,
            None => false,
        };
        self.batch(&sql::locks(source)).await.map_err(|failure| in_file(source, None, failure))?;
        let relations = self.rows(sql::LOCKED, &[]).await?.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>();
        let relations = relations.map_err(|e| Failure::of_query(&e))?;
        self.prepared.insert(source.name.clone(), Prepared { columns, sequence, relations });
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
    pub async fn read(&self, source: &Source, plan: &ReadPlan) -> Result<Vec<Group>, Failure> {
        self.answer(source, &self.prepared(source)?.columns, plan).await
    }

    /// Runs the statement of a poll; inside a transaction.
    pub async fn answer(&self, source: &Source, columns: &Columns, plan: &ReadPlan) -> Result<Vec<Group>, Failure> {
        let (lo, hi, until) = arrays(&plan.ranges);
        let statement = sql::poll(source, columns, plan);
        let parameters: [Parameter<'_>; 3] =
            [(&lo, Type::INT8_ARRAY), (&hi, Type::INT8_ARRAY), (&until, Type::FLOAT8_ARRAY)];
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

/// The parameters for ranges: first ids, last ids, and times.
fn arrays(ranges: &[Range]) -> (Vec<i64>, Vec<i64>, Vec<Option<f64>>) {
    let (lo, hi) = ranges.iter().map(|range| (range.0, range.1)).unzip();
    (lo, hi, ranges.iter().map(|range| range.2).collect())
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

/// The labels that stand in a row from the position `at` on.
fn labels<'s>(
    source: &Source,
    names: impl Iterator<Item = &'s str>,
    row: &Row,
    at: usize,
) -> Result<Vec<String>, Failure> {
    let wrong = |e: tokio_postgres::Error| Failure::new(Reason::Decode, format!("{}: {e}", source.name));
    let label = |(i, name): (usize, &str)| -> Result<String, Failure> {
        let text: Option<Lossy> = row.try_get(at + i).map_err(wrong)?;
        Ok(cut(source.label(name, text.as_ref().map(|text| text.0.as_str()))))
    };
    names.enumerate().map(label).collect()
}

fn decode(source: &Source, row: &Row) -> Result<Group, Failure> {
    let wrong = |e: tokio_postgres::Error| Failure::new(Reason::Decode, format!("{}: {e}", source.name));
    let numbers = |i: usize| -> Result<Vec<u64>, Failure> {
        let numbers: Vec<i64> = row.try_get(i).map_err(wrong)?;
        Ok(numbers.into_iter().map(i64::unsigned_abs).collect())
    };
    let mut set = labels(source, source.row_labels(), row, 0)?;
    let at = set.len();
    let by = set.split_off(source.labels.len());
    let open = source.open_labels().into_iter().map(|label| source.label_of(label, &set, &by).to_owned()).collect();
    let sums: Vec<String> = row.try_get(at + 6).map_err(wrong)?;
    let sums: Option<Vec<Decimal>> = sums.iter().map(|sum| Decimal::parse(sum)).collect();
    let group = Group {
        set,
        by,
        open,
        done: row.try_get(at).map_err(wrong)?,
        known: row.try_get(at + 1).map_err(wrong)?,
        ids: row.try_get(at + 2).map_err(wrong)?,
        ats: row.try_get(at + 3).map_err(wrong)?,
        newest: row.try_get(at + 4).map_err(wrong)?,
        counts: numbers(at + 5)?,
        sums: sums.ok_or_else(|| Failure::new(Reason::Decode, format!("{}: a sum is no decimal", source.name)))?,
        rejected: numbers(at + 7)?,
        oldest: row.try_get(at + 8).map_err(wrong)?,
        values: (0..source.natives.len()).map(|i| row.try_get(at + 9 + i).map_err(wrong)).collect::<Result<_, _>>()?,
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
