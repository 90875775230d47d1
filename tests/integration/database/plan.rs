//! What a poll costs: the tail, the gaps and the open rows, and nothing of the history.
//!
//! `RSOLV_PLAN_ROWS=1000000,5000000` sets the sizes of the history, which `--nocapture` shows with what was measured.

use rsolv_exporter::config::{self, Settings};
use rsolv_exporter::poll::Poller;
use rsolv_exporter::snapshot::SnapshotStore;
use rsolv_exporter::source::Source;
use rsolv_exporter::sql;
use rsolv_exporter::telemetry::self_metrics::Metrics;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_postgres::SimpleQueryMessage;

use crate::support::cluster::Cluster;
use crate::support::database::{Database, SCHEMA};

/// Rows of a steady poll.
const TAIL: u32 = 20;
const OPEN: u32 = 40;

/// A poller in this process, whose ledgers can be looked into, and the settings it works with.
struct Subject {
    settings: Settings,
    poller: Poller,
}

/// How the next poll runs: in one statement, and in the two that look at open and missing ids and read rows when that is
/// not possible.
#[derive(Debug)]
struct Explained {
    buffers: u64,
    milliseconds: f64,
    /// Ids and wide ranges that are looked for, and the ranges in which that is done.
    watched: u64,
    ranges: usize,
    statement_bytes: usize,
    ledger_bytes: usize,
    plans: Vec<Value>,
}

impl Subject {
    fn new(db: &Database<'_>) -> Self {
        let flags = BTreeMap::from([("database.url".to_owned(), db.url())]);
        let layers = config::load(None, BTreeMap::new(), flags).expect("no file to read");
        let settings = Settings::check(&layers).expect("good settings");
        let sources = Source::shipped().expect("sound definitions");
        let metrics = Metrics::new(&sources);
        let poller = Poller::new(&settings, sources, metrics, Arc::new(SnapshotStore::default()));
        Self { settings, poller }
    }

    /// What the next poll would run on the validations, explained in a transaction like a poll's.
    async fn explain(&self) -> Explained {
        let tracked = &self.poller.tracked[0];
        let session = self.settings.target.connect().await.expect("a connection");
        let clock = session.begin().await.expect("a transaction").clock;
        let columns = session.describe(&tracked.source).await.expect("columns");
        let frontier = tracked.ledger.frontier();
        let watch = tracked.ledger.watch((clock * 1000.0) as i64, 86_400_000, 1);
        let list = |pick: fn(&(i64, i64)) -> i64| {
            let ids: Vec<String> = watch.ranges.iter().map(|range| pick(range).to_string()).collect();
            format!("'{{{}}}'::int8[]", ids.join(","))
        };
        let look = sql::watch(&tracked.source, 100_000);
        let look = look.replace("$1::int8[]", &list(|r| r.0)).replace("$2::int8[]", &list(|r| r.1));
        let read = sql::poll_filled_in(&tracked.source, &columns, &tracked.ledger.plan(&[], 20_000));
        let at_once = tracked.ledger.plan_at_once(&watch, &watch.ranges, 20_000).expect("few open and missing ids");
        let at_once = sql::poll_filled_in(&tracked.source, &columns, &at_once);
        let mut explained = Explained {
            buffers: 0,
            milliseconds: 0.0,
            watched: frontier.open().len() + frontier.missing().watched(),
            ranges: watch.ranges.len(),
            statement_bytes: at_once.len(),
            ledger_bytes: serde_json::to_string(&tracked.ledger).expect("JSON").len(),
            plans: Vec::new(),
        };
        for statement in [look, read, at_once] {
            let explain = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}");
            // Once to warm up: what is measured is not the disk.
            session.client().simple_query(&explain).await.expect("a plan");
            let answer = session.client().simple_query(&explain).await.expect("a plan");
            let text = answer.iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            });
            let mut plan: Value = serde_json::from_str(text.expect("a plan")).expect("JSON");
            let root = &plan[0]["Plan"];
            let blocks = |key: &str| root[key].as_u64().expect(key);
            // The last one is what a poll runs.
            explained.buffers = blocks("Shared Hit Blocks") + blocks("Shared Read Blocks");
            explained.milliseconds = plan[0]["Execution Time"].as_f64().expect("a time");
            explained.plans.push(plan[0]["Plan"].take());
        }
        explained
    }
}

/// How rows of the executions table are reached: node type and index, each once.
fn access(plans: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    let mut nodes: Vec<&Value> = plans.iter().collect();
    while let Some(node) = nodes.pop() {
        nodes.extend(node["Plans"].as_array().into_iter().flatten());
        let table = node["Relation Name"].as_str().unwrap_or_default();
        let index = node["Index Name"].as_str().unwrap_or_default();
        if table == "validation_executions" || index.starts_with("validation_executions") {
            found.push(format!("{} {index}", node["Node Type"].as_str().unwrap_or_default()));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Through the primary key, and in no other way; for ids alone the rows need not be touched.
fn assert_through_the_key(explained: &Explained, what: &str) {
    let mut ways = access(&explained.plans);
    ways.retain(|way| way != "Index Only Scan validation_executions_pkey");
    assert_eq!(ways, ["Index Scan validation_executions_pkey"], "{what}: {:#?}", explained.plans);
}

/// Adds finished validations up to `total`. Indexes are dropped and made anew, which is quicker than keeping them.
async fn grow(db: &Database<'_>, total: u64) {
    let indexes = "SELECT string_agg(format('DROP INDEX %s', indexrelid::regclass), '; ') FROM pg_index
                   WHERE indrelid = 'validation_executions'::regclass AND NOT indisprimary";
    let drop = db.value(indexes).await;
    if drop != "NULL" {
        db.batch(&drop).await;
    }
    insert(db, &format!("{total} - (SELECT count(*) FROM validation_executions)"), "completed").await;
    let create =
        SCHEMA.lines().filter(|line| line.starts_with("CREATE INDEX") && line.contains("validation_executions"));
    db.batch(&create.collect::<Vec<_>>().join("\n")).await;
}

async fn insert(db: &Database<'_>, count: &str, status: &str) {
    db.batch(&format!(
        "INSERT INTO validation_executions (repository_id, issue_number, commit_sha, status, data,
           started_at, completed_at, inserted_at, updated_at)
         SELECT 1 + i % 20, i, md5(i::text), '{status}', jsonb_build_object('language', 'ruby', 'tests_generated', i % 9),
           now(), now(), now(), now() FROM generate_series(1, {count}) AS i"
    ))
    .await;
}

async fn repositories(db: &Database<'_>) {
    for i in 1..=20 {
        assert_eq!(db.repository(&format!("acme/{i}")).await, i);
    }
}

#[tokio::test]
async fn a_steady_poll_costs_the_same_whatever_the_history() {
    let sizes = std::env::var("RSOLV_PLAN_ROWS").unwrap_or_else(|_| "100000,400000".into());
    let sizes: Vec<u64> = sizes.split(',').map(|size| size.parse().expect("RSOLV_PLAN_ROWS=N,M")).collect();
    let db = Database::new().await;
    repositories(&db).await;
    let mut subject = Subject::new(&db);
    let mut explained: Vec<Explained> = Vec::new();
    for size in sizes {
        grow(&db, size).await;
        db.batch("UPDATE validation_executions SET status = 'completed' WHERE status = 'running'").await;
        db.batch("VACUUM ANALYZE validation_executions").await;
        insert(&db, &OPEN.to_string(), "running").await;
        subject.poller.poll().await.expect("a poll");
        assert!(subject.poller.tracked[0].ledger.is_complete());
        insert(&db, &TAIL.to_string(), "completed").await;
        let steady = subject.explain().await;
        println!(
            "{size} rows: {} buffers, {:.2} ms, {} ranges, {} bytes of SQL, {} bytes of ledger",
            steady.buffers, steady.milliseconds, steady.ranges, steady.statement_bytes, steady.ledger_bytes
        );
        assert_through_the_key(&steady, "steady");
        explained.push(steady);
    }
    let [small, large] = explained.as_slice() else { panic!("two sizes") };
    let ratio = large.buffers as f64 / small.buffers as f64;
    assert!(ratio < 1.5, "{} buffers became {}", small.buffers, large.buffers);
    // One range before the first id, and the open rows, which are side by side.
    assert_eq!([(small.watched, small.ranges), (large.watched, large.ranges)], [(u64::from(OPEN), 2); 2]);
    // Digits of ids and totals.
    assert!(large.statement_bytes.abs_diff(small.statement_bytes) < 300, "{small:?} {large:?}");
    assert!(large.ledger_bytes.abs_diff(small.ledger_bytes) < 1_500, "{small:?} {large:?}");
}

#[tokio::test]
async fn no_statistics_make_a_poll_read_the_history() {
    // Nobody helps the planner behind the test's back.
    let cluster = Cluster::start(&[("autovacuum", "off")]).unwrap();
    let db = Database::on(&cluster).await;
    repositories(&db).await;
    let mut subject = Subject::new(&db);
    db.batch("ANALYZE").await;
    grow(&db, 60_000).await;
    // Thousands of open rows and of gaps, and an id from another world.
    insert(&db, "3000", "running").await;
    db.batch("DELETE FROM validation_executions WHERE id > 50000 AND id <= 60000 AND id % 3 = 0").await;
    db.batch(
        "INSERT INTO validation_executions (id, repository_id, issue_number, commit_sha, status, inserted_at, updated_at)
         VALUES (1000000000000, 1, 1, 'c0ffee', 'completed', now(), now())",
    )
    .await;
    subject.poller.poll().await.expect("a poll");
    insert(&db, "100", "completed").await;

    for statistics in [
        "SELECT 'stale: taken when the table was empty'",
        "ANALYZE",
        "DELETE FROM pg_statistic; UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE relname LIKE 'validation%'",
        "UPDATE pg_class SET reltuples = 1, relpages = 1 WHERE relname LIKE 'validation%'",
        "UPDATE pg_class SET reltuples = 1e9, relpages = 1e7 WHERE relname LIKE 'validation%'",
    ] {
        db.batch(statistics).await;
        let explained = subject.explain().await;
        println!(
            "{} buffers, {:.2} ms, {} ranges: {statistics}",
            explained.buffers, explained.milliseconds, explained.ranges
        );
        assert!(explained.watched > 6000 && explained.ranges < 20, "{explained:?}");
        assert_through_the_key(&explained, statistics);
    }
    subject.poller.poll().await.expect("a poll");
    let rows = subject.poller.tracked[0].ledger.rows().to_string();
    let finished = "SELECT count(*) FROM validation_executions WHERE status = 'completed'";
    assert_eq!(rows, db.value(finished).await);
}

#[tokio::test]
async fn a_poll_reads_in_proportion_to_what_is_new() {
    let cluster = Cluster::start(&[("autovacuum", "off")]).unwrap();
    let db = Database::on(&cluster).await;
    repositories(&db).await;
    let mut subject = Subject::new(&db);
    // What the planner knows is of when all that is new was not there.
    grow(&db, 20_000).await;
    db.batch("VACUUM ANALYZE").await;
    subject.poller.poll().await.expect("a poll");
    let (mut new, mut per_row) = (0, Vec::new());
    for tail in [1_000, 4_000, 16_000] {
        insert(&db, &format!("{tail} - {new}"), "completed").await;
        new = tail;
        let explained = subject.explain().await;
        println!("{tail} new rows: {} buffers, {:.2} ms", explained.buffers, explained.milliseconds);
        assert_through_the_key(&explained, &tail.to_string());
        per_row.push(explained.buffers as f64 / f64::from(tail));
    }
    assert!(per_row.iter().all(|buffers| *buffers < per_row[0] * 1.2), "{per_row:?}");
    // Dozens of rows share a page: none of the rows that were there before is among them.
    assert!(per_row[0] < 0.2, "{per_row:?}");
    subject.poller.poll().await.expect("a poll");
    assert_eq!(subject.poller.tracked[0].ledger.rows(), 36_000);
}

/// Whatever is open, missing or new: with many partitions the server takes longer to plan a statement than to run it.
#[tokio::test]
async fn a_poll_runs_one_statement_on_a_source() {
    let cluster = Cluster::start(&[("shared_preload_libraries", "pg_stat_statements")]).unwrap();
    let db = Database::on(&cluster).await;
    db.batch("CREATE EXTENSION pg_stat_statements").await;
    repositories(&db).await;
    let mut subject = Subject::new(&db);
    insert(&db, "100", "completed").await;
    subject.poller.poll().await.expect("a poll");
    for (change, rows, open) in [
        ("SELECT", 100, 0),
        (
            "INSERT INTO validation_executions SELECT (e).* FROM (SELECT jsonb_populate_record(e, '{\"id\": 300}') AS e
          FROM validation_executions AS e WHERE id = 1) AS e",
            101,
            0,
        ),
        (
            "INSERT INTO validation_executions SELECT (e).* FROM (SELECT jsonb_populate_record(e,
          jsonb_build_object('id', i, 'status', CASE i % 2 WHEN 0 THEN 'running' ELSE 'completed' END)) AS e
          FROM validation_executions AS e, generate_series(200, 219) AS i WHERE e.id = 1) AS e",
            111,
            10,
        ),
        ("DELETE FROM validation_executions WHERE id = 202", 111, 9),
        ("UPDATE validation_executions SET status = 'completed' WHERE id BETWEEN 200 AND 210", 116, 4),
    ] {
        db.batch(change).await;
        db.batch("SELECT pg_stat_statements_reset()").await;
        subject.poller.poll().await.expect("a poll");
        let calls = "SELECT sum(calls) FROM pg_stat_statements WHERE query LIKE '%FROM validation_executions AS e%'
                     AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
        assert_eq!(db.value(calls).await, "1", "{change}");
        let ledger = &subject.poller.tracked[0].ledger;
        let is_open: u64 = ledger.open_rows().values().map(|open| open.rows).sum();
        assert_eq!((ledger.rows(), ledger.frontier().open().len(), is_open), (rows, open, open), "{change}");
    }
}
