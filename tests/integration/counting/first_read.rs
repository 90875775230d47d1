//! The first read of a long table, while others write to it.

use std::time::{Duration, Instant};

use crate::random::Random;
use crate::support::database::Database;
use crate::support::exporter::Exporter;
use crate::support::metrics::Metrics;

/// More than the first statement of a source reads.
const HISTORY: u32 = 30_000;
const WRITERS: u64 = 4;

fn insert(count: u32, status: &str) -> String {
    format!(
        "INSERT INTO validation_executions (repository_id, issue_number, commit_sha, status, data,
           started_at, completed_at, inserted_at, updated_at)
         SELECT 1, i, 'c0ffee', '{status}', jsonb_build_object('tests_generated', i % 7), now(), now(), now(), now()
         FROM generate_series(1, {count}) AS i"
    )
}

/// Transactions that are open for up to a second, one in four of them for nothing.
async fn write(client: tokio_postgres::Client, seed: u64, until: Instant) {
    let mut random = Random::new(seed);
    while Instant::now() < until {
        let rows = insert(random.between(1, 40), random.pick(&["completed", "failed", "running"]));
        client.batch_execute(&format!("BEGIN; {rows}")).await.expect("rows");
        tokio::time::sleep(Duration::from_millis(random.between(0, 1000).into())).await;
        let end = if random.chance(25.0) { "ROLLBACK" } else { "COMMIT" };
        client.batch_execute(end).await.expect(end);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_history_is_read_exactly_while_others_write() {
    let db = Database::new().await;
    assert_eq!(db.repository("a/b").await, 1);
    // Ids below the history that commit only after it has been read.
    let late = db.client().await;
    late.batch_execute(&format!("BEGIN; {}", insert(10, "completed"))).await.unwrap();
    db.batch(&insert(HISTORY / 2, "completed")).await;
    let within = db.client().await;
    within.batch_execute(&format!("BEGIN; {}", insert(10, "failed"))).await.unwrap();
    db.batch(&insert(HISTORY / 2, "completed")).await;
    db.batch("UPDATE validation_executions SET status = 'running' WHERE id % 1000 = 0").await;

    let until = Instant::now() + Duration::from_secs(3);
    let mut writers = tokio::task::JoinSet::new();
    for seed in 1..=WRITERS {
        writers.spawn(write(db.client().await, seed, until));
    }
    let flags = ["--poll.interval", "100ms", "--series.birth-hold", "0s"];
    let exporter = Exporter::start(&db.url(), &flags).await;
    let counted = |metrics: &Metrics| metrics.sum("rsolv_validation_executions_total", &[]);
    let first = exporter.wait_for("the first read", |metrics| counted(metrics) > 0.0).await;
    assert!(counted(&first) > f64::from(HISTORY) * 0.99, "nothing is shown before all is read: {}", counted(&first));
    assert!(exporter.log().contains("msg=\"reading rows from before\""), "{}", exporter.log());

    db.batch("UPDATE validation_executions SET status = 'failed' WHERE status = 'running' AND id < 9000").await;
    late.batch_execute("COMMIT").await.unwrap();
    within.batch_execute("COMMIT").await.unwrap();
    while let Some(written) = writers.join_next().await {
        written.expect("a writer");
    }
    let finished = "FROM validation_executions WHERE status IN ('completed', 'failed')";
    let rows = db.value(&format!("SELECT count(*) {finished}")).await;
    let metrics = exporter.wait_for(&rows, |metrics| counted(metrics) >= rows.parse().expect("a number")).await;
    let failed = db.value("SELECT count(*) FROM validation_executions WHERE status = 'failed'").await;
    let tests = db.value(&format!("SELECT sum((data ->> 'tests_generated')::int) {finished}")).await;
    let open = db.value("SELECT count(*) FROM validation_executions WHERE status = 'running'").await;
    let sum =
        |name: &str, labels: &[(&str, &str)]| metrics.sum(&format!("rsolv_validation_{name}"), labels).to_string();
    assert_eq!(sum("executions_total", &[]), rows);
    assert_eq!(sum("executions_total", &[("status", "failed")]), failed);
    assert_eq!(sum("test_generated_total", &[]), tests);
    assert_eq!(sum("executions_open", &[("status", "running")]), open);
    assert_eq!(metrics.sum("rsolv_exporter_poll_failures_total", &[]), 0.0, "{}", exporter.log());
}
