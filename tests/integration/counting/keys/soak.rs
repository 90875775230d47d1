//! Writers of every kind of transaction against each kind of table.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::tables::{CASES, Case, OPEN, TOML, filled, truth};
use crate::random::Random;
use crate::support::database::connect;
use crate::support::metrics::Metrics;
use crate::support::source::Source;

/// Writers at once.
const WRITERS: u64 = 10;
/// The exporter is killed so often.
const KILLS: usize = 3;

/// One of the writers.
async fn write(url: String, case: &'static Case, seed: u64, stop: Arc<AtomicBool>) {
    let client = connect(&url).await.expect("a connection");
    let mut random = Random::new(seed);
    let insert = filled(case.insert);
    while !stop.load(Ordering::Relaxed) {
        let run = async |sql: &str| client.batch_execute(sql).await.is_ok();
        let mut is_whole = run("BEGIN").await;
        for _ in 0..random.between(1, 6) {
            if random.chance(20.0) {
                is_whole &= run("SAVEPOINT step").await && run(&insert).await && run("ROLLBACK TO step").await;
            }
            let step = if random.chance(35.0) { case.finish } else { insert.as_str() };
            is_whole = is_whole && run(step).await;
            if random.chance(6.0) {
                tokio::time::sleep(Duration::from_millis(random.between(0, 600) as u64)).await;
            }
        }
        let end = if is_whole && !random.chance(20.0) { "COMMIT" } else { "ROLLBACK" };
        assert!(run(end).await, "{}", case.name);
        tokio::time::sleep(Duration::from_millis(random.between(0, 10) as u64)).await;
    }
}

/// Every series that differs from the truth.
async fn differences(source: &Source<'_>, case: &Case, metrics: &Metrics) -> Vec<String> {
    let client = source.db.client().await;
    let mut wrong = Vec::new();
    let rows = "SELECT kind, state, count(*)::float8 FROM truth GROUP BY 1, 2";
    let mut all = 0.0;
    for row in client.query(rows, &[]).await.expect("the truth") {
        let (kind, state, n): (&str, &str, f64) = (row.get(0), row.get(1), row.get(2));
        let shown = metrics.value("events_total", &[("kind", kind), ("state", state)]);
        all += n;
        if shown != Some(n) {
            wrong.push(format!("{kind} {state}: {shown:?} and not {n}"));
        }
    }
    let rows = "SELECT kind, count(*)::float8, count(*) FILTER (WHERE value <= 1)::float8, sum(value)::float8 FROM truth GROUP BY 1";
    for row in client.query(rows, &[]).await.expect("the truth") {
        let kind: &str = row.get(0);
        let value = |name: &str, labels: &[(&str, &str)]| metrics.value(name, &[&[("kind", kind)], labels].concat());
        let shown = [
            value("events_value_count", &[]),
            value("events_value_bucket", &[("le", "1")]),
            value("events_value_sum", &[]),
        ];
        let right = [row.get(1), row.get(2), row.get(3)].map(Some);
        if shown != right {
            wrong.push(format!("{kind}: {shown:?} and not {right:?}"));
        }
    }
    let total = metrics.sum("events_total", &[]);
    if total != all {
        wrong.push(format!("{total} in all, and not {all}"));
    }
    if case.shows_open {
        let open = source.db.value("SELECT count(*) FROM events WHERE state = 'open'").await;
        let shown = metrics.sum("events_open", &[]).to_string();
        if shown != open {
            wrong.push(format!("{shown} open, and not {open}"));
        }
    }
    wrong
}

/// Deletes what has been counted, and lets rows that end again do so.
async fn change_the_counted(source: &Source<'_>, case: &Case) {
    source.db.batch("DROP TABLE IF EXISTS counted; CREATE TABLE counted AS SELECT key FROM truth").await;
    source.exporter().wait_polls(3).await;
    let key = case.key_of.replace("NEW.", "e.");
    if case.shows_open {
        let delete = format!(
            "DELETE FROM events AS e USING counted AS c WHERE e.state <> 'open' AND c.key = {key} AND random() < 0.4"
        );
        source.db.batch(&delete).await;
    } else {
        let reopen = format!(
            "UPDATE events AS e SET state = 'open', finished_at = NULL FROM counted AS c WHERE c.key = {key} AND random() < 0.4"
        );
        source.db.batch(&reopen).await;
    }
    // Edits of what has been counted mean nothing.
    let edit = format!("UPDATE events AS e SET value = 4 FROM counted AS c WHERE e.state <> 'open' AND c.key = {key}");
    source.db.batch(&edit).await;
}

async fn soak(case: &'static Case, seed: u64) {
    let mut source = Source::new(&[case.schema, &truth(case)]).await;
    source.define("events", case.select, &format!("{}{TOML}{}", case.key, if case.shows_open { OPEN } else { "" }));
    let insert = filled(case.insert);
    for _ in 0..30 {
        source.db.batch(&insert).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    let url = source.db.cluster().socket_url(&source.db.name);
    (0..WRITERS).for_each(|n| _ = writers.spawn(write(url.clone(), case, seed * 100 + n, stop.clone())));
    source.start().await;
    for _ in 0..KILLS {
        change_the_counted(&source, case).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        source.kill().await;
        source.start().await;
    }
    change_the_counted(&source, case).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(written) = writers.join_next().await {
        written.unwrap_or_else(|error| panic!("{}: a writer: {error}", case.name));
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let metrics = source.exporter().wait_polls(2).await;
        let wrong = differences(&source, case, &metrics).await;
        if wrong.is_empty() {
            break;
        }
        let log = source.exporter().log();
        assert!(Instant::now() < deadline, "{} (seed {seed}): {wrong:#?}\n{log}", case.name);
    }
    let metrics = source.exporter().wait_polls(3).await;
    assert_eq!(differences(&source, case, &metrics).await, [""; 0], "{}, later", case.name);
    assert_eq!(metrics.sum("rsolv_exporter_poll_failures_total", &[]), 0.0, "{}", source.exporter().log());
    println!("{}: {} events", case.name, metrics.sum("events_total", &[]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_key_counts_every_ending_once() {
    let seeds = std::env::var("RSOLV_SOAK_SEEDS").map_or(1, |text| text.parse().expect("a number of seeds"));
    for seed in 1..=seeds {
        for case in &CASES {
            soak(case, seed).await;
        }
    }
}
