//! A connection, and the one read-only transaction that a poll makes on it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::address::Server;
use super::failure::{Failure, Reason};
use super::identity::ServerId;
use super::row::Row;
use super::{columns, decode};
use crate::ledger::evidence::{Evidence, Stamp};
use crate::ledger::frontier::{Range, ReadPlan};
use crate::ledger::witness::Mark;
use crate::ledger::{ApplyError, Group, Seen};
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
    /// True if a snapshot taken here can lack what one taken at `last` showed.
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
    /// True if its sequence can be read.
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
    ///
    /// # Errors
    /// Fails if the database does not answer.
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
    ///
    /// # Errors
    /// Fails if the database does not answer.
    pub async fn who(&self) -> Result<ServerId, Failure> {
        let may = self
            .query_one(
                "SELECT has_function_privilege('pg_control_system()', 'EXECUTE'), \
                 (SELECT oid::int8 FROM pg_database WHERE datname = current_database())",
            )
            .await?;
        let oid: i64 = may.try_get(1).map_err(|e| Failure::of_query(&e))?;
        let mut server = ServerId { database: oid.to_string(), ..ServerId::default() };
        if may.try_get(0).unwrap_or(false) {
            let system = self.query_one("SELECT system_identifier FROM pg_control_system()").await?;
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
    ///
    /// # Errors
    /// Fails if the connection is lost; a server that does not tell is no failure.
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
    ///
    /// # Errors
    /// Fails if the database does not answer.
    pub async fn identity(&self) -> Result<String, Failure> {
        Ok(self.who().await?.identity())
    }

    /// Runs one source's part of the transaction; when it fails, the rest of the transaction goes on.
    ///
    /// # Errors
    /// Fails if the connection is lost; a failure of the source alone is in the inner result.
    pub async fn with_savepoint<T>(
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

    /// Bounds the statements of the transactions that follow.
    pub fn limit_statements(&mut self, limit: Duration) {
        self.timeouts.statement = limit;
    }

    /// Opens the transaction, and pins what could change the meaning or the cost of a statement.
    ///
    /// # Errors
    /// Fails if the server does not answer within `database.connect_timeout`.
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
    ///
    /// # Errors
    /// Fails if the database does not answer.
    pub async fn end(&self) -> Result<(), Failure> {
        self.batch("COMMIT").await
    }

    /// Runs statements that return nothing; inside a transaction.
    ///
    /// # Errors
    /// Fails if the server refuses a statement or does not answer.
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
    /// snapshot was taken; inside [`Session::with_savepoint`]. A standby shows a sequence that is ahead of the truth.
    ///
    /// # Errors
    /// Fails if the source was not prepared, or if the database does not answer.
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

    /// The rows that are there under these ids; it locks the tables, also when there are none. Inside [`Session::with_savepoint`].
    ///
    /// # Errors
    /// Fails if the SELECT does, or gives two rows with one id.
    pub async fn witnesses(&self, source: &Source, ids: &[i64]) -> Result<BTreeMap<i64, Mark>, Failure> {
        if ids.is_empty() {
            self.batch(&sql::locks(source)).await.map_err(|failure| in_file(source, None, failure))?;
            return Ok(BTreeMap::new());
        }
        let rows = self.rows(&sql::witnesses(source), &[(&ids, Type::INT8_ARRAY)]).await;
        let rows = rows.map_err(|failure| in_file(source, None, failure))?;
        let mut marks = BTreeMap::new();
        for row in &rows {
            let (id, mark) = decode::witness(source, row)?;
            if marks.insert(id, mark).is_some() {
                let error = ApplyError::Duplicate(id);
                return Err(Failure::new(Reason::Duplicate, format!("{}.sql: {error}", source.name)));
            }
        }
        Ok(marks)
    }

    /// Which ids of these ranges (inclusive) are there, at most `limit` of each; inside [`Session::with_savepoint`].
    ///
    /// # Errors
    /// Fails if the SELECT does.
    pub async fn seen(&self, source: &Source, ranges: &[(i64, i64)], limit: usize) -> Result<Vec<Seen>, Failure> {
        let (lo, hi): (Vec<i64>, Vec<i64>) = ranges.iter().copied().unzip();
        let parameters: [Parameter<'_>; 2] = [(&lo, Type::INT8_ARRAY), (&hi, Type::INT8_ARRAY)];
        let rows = self.rows(&sql::watch(source, limit), &parameters).await;
        let rows = rows.map_err(|failure| in_file(source, None, failure))?;
        rows.iter().map(|row| decode::seen(source, row)).collect()
    }

    /// How many tables a source reads, each partition as one.
    pub fn tables(&self, source: &Source) -> u64 {
        self.prepared.get(&source.name).map_or(1, |prepared| prepared.relations.len() as u64)
    }

    /// The ids in ranges, at most `limit` of each, each as a range of its own, in order; inside [`Session::with_savepoint`].
    ///
    /// # Errors
    /// Fails if the SELECT does.
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

    /// The columns of a source that is prepared.
    pub(super) fn columns(&self, source: &Source) -> Result<&Columns, Failure> {
        Ok(&self.prepared(source)?.columns)
    }

    fn prepared(&self, source: &Source) -> Result<&Prepared, Failure> {
        let missing = || Failure::new(Reason::Decode, format!("{} was not prepared", source.name));
        self.prepared.get(&source.name).ok_or_else(missing)
    }

    /// True if the columns and tables of a source are known.
    pub(super) fn is_prepared(&self, source: &Source) -> bool {
        self.prepared.contains_key(&source.name)
    }

    /// Takes over the columns of a source, and finds out whether its sequence can be read, and which tables it reads;
    /// inside [`Session::with_savepoint`].
    pub(super) async fn prepare(&mut self, source: &Source, columns: Columns) -> Result<(), Failure> {
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

    /// True if a sequence exists and the role may read it.
    ///
    /// # Errors
    /// Fails if the database does not answer.
    pub async fn may_read_sequence(&self, name: &str) -> Result<bool, Failure> {
        let name = sql::literal(name);
        let row = self
            .query_one(&format!("SELECT coalesce(has_sequence_privilege(to_regclass({name}), 'SELECT'), false)"))
            .await?;
        row.try_get(0).map_err(|e| Failure::of_query(&e))
    }

    /// Reads a source that is [`super::definition::prepare`]d.
    ///
    /// # Errors
    /// Fails if the SELECT does, or if the source was not prepared.
    pub async fn read(&self, source: &Source, plan: &ReadPlan) -> Result<Vec<Group>, Failure> {
        self.answer(source, &self.prepared(source)?.columns, plan).await
    }

    /// Runs the statement of a poll; inside a transaction.
    ///
    /// # Errors
    /// Fails if the SELECT does, or gives what cannot be counted.
    pub async fn answer(&self, source: &Source, columns: &Columns, plan: &ReadPlan) -> Result<Vec<Group>, Failure> {
        let (lo, hi, until) = arrays(&plan.ranges);
        let statement = sql::poll(source, columns, plan);
        let mut parameters: Vec<Parameter<'_>> =
            vec![(&lo, Type::INT8_ARRAY), (&hi, Type::INT8_ARRAY), (&until, Type::FLOAT8_ARRAY)];
        parameters.extend((!plan.masks.is_empty()).then_some((&plan.masks as _, Type::BYTEA_ARRAY)));
        let rows = self.rows(&statement, &parameters).await.map_err(|failure| in_file(source, None, failure))?;
        rows.iter().map(|row| decode::group(source, row)).collect()
    }

    /// About how many rows the SELECT has, as the planner sees it; inside a transaction.
    ///
    /// # Errors
    /// Fails if the SELECT does.
    pub async fn extent(&self, source: &Source) -> Result<i64, Failure> {
        let explain = format!("EXPLAIN (FORMAT JSON) SELECT done FROM (\n{}\n) AS execution", source.sql);
        let plan = self.deadline(self.client.simple_query(&explain)).await?;
        let plan = plan.iter().find_map(|m| match m {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let plan: Option<serde_json::Value> = plan.and_then(|text| serde_json::from_str(text).ok());
        let rows = plan.and_then(|plan| plan[0]["Plan"]["Plan Rows"].as_f64()).unwrap_or_default();
        Ok(rows as i64)
    }

    /// Runs a statement; inside a transaction.
    ///
    /// # Errors
    /// Fails if the server refuses the statement or does not answer.
    pub async fn rows(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Failure> {
        // An unnamed statement with given types: prepared ones break behind a pooler in transaction mode.
        let rows = self.deadline(self.client.query_typed(statement, parameters)).await?;
        Ok(rows.into_iter().map(Row::from).collect())
    }

    /// Runs a statement that returns no rows, and says how many it was about; inside a transaction.
    ///
    /// # Errors
    /// Fails if the server refuses the statement or does not answer.
    pub async fn execute(&self, statement: &str) -> Result<u64, Failure> {
        self.deadline(self.client.execute_typed(statement, &[])).await
    }

    /// Runs a statement without parameters and returns its rows as text; inside a transaction.
    ///
    /// # Errors
    /// Fails if the server refuses the statement or does not answer.
    pub async fn text(&self, statement: &str) -> Result<Vec<SimpleQueryRow>, Failure> {
        let messages = self.deadline(self.client.simple_query(statement)).await?;
        let row = |message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    /// Runs a statement without parameters that returns one row.
    ///
    /// # Errors
    /// Fails if the server refuses the statement, does not answer, or gives no row.
    pub async fn query_one(&self, statement: &str) -> Result<Row, Failure> {
        let rows = self.rows(statement, &[]).await?;
        rows.into_iter().next().ok_or_else(|| Failure::new(Reason::Decode, "no row where there should be one"))
    }

    /// The columns of the SELECT and their types; inside a transaction.
    ///
    /// # Errors
    /// Fails if the SELECT cannot run, or has a column that the definition needs twice.
    pub async fn describe(&self, source: &Source) -> Result<Columns, Failure> {
        let (statement, before) = sql::names(source);
        let names = self.query_one(&statement).await.map_err(|failure| in_file(source, Some(before), failure))?;
        let names: Vec<String> = names.try_get(0).map_err(|e| Failure::of_query(&e))?;
        let names = columns::unambiguous(source, &names)?;
        let types =
            self.rows(&sql::types(source, &names), &[]).await.map_err(|failure| in_file(source, None, failure))?;
        let types = types.iter().map(columns::column).collect::<Result<Vec<_>, _>>()?;
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
