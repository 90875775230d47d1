//! Totals are exact, whatever they add up, and what is saved is read back to the last bit.

use std::collections::BTreeMap;

use crate::support::metrics::Metrics;
use crate::support::source::{EVENTS, SELECT, Source, TOML};

/// A definition with durations.
const DURATIONS: &str = r#"
[[histogram]]
name = "events_duration_milliseconds"
help = "How long they took."
unit = "milliseconds"
value = "ms"
buckets = [1, 10, 1000]
"#;

/// A table with durations, and its definition.
async fn with_durations() -> Source<'static> {
    let source = Source::new(&[EVENTS, "ALTER TABLE events ADD ms float8"]).await;
    source.define("events", &SELECT.replace("kind", "kind, ms"), &[TOML, DURATIONS].concat());
    source
}

/// Rows whose durations have fractions that no binary number holds.
async fn insert_fractions(source: &Source<'_>, rows: u32) {
    let values = "SELECT 'language ' || i % 200, (i * 7919 % 10007) * 1.001 / 1000 FROM generate_series";
    source.db.batch(&format!("INSERT INTO events (kind, ms) {values} (1, {rows}) AS i")).await;
}

/// Every sum as it is written.
fn sums(metrics: &Metrics) -> BTreeMap<&str, &str> {
    let lines = metrics.text.lines().filter(|line| line.starts_with("events_duration_milliseconds_sum"));
    lines.filter_map(|line| line.rsplit_once(' ')).collect()
}

#[tokio::test]
async fn sums_are_the_same_to_the_last_digit_after_a_restart() {
    let mut source = with_durations().await;
    insert_fractions(&source, 5_000).await;
    source.start().await;
    source.counts(5_000).await;
    insert_fractions(&source, 5_000).await;
    let before = source.counts(10_000).await;
    assert_eq!(sums(&before).len(), 200);
    for _ in 0..2 {
        source.stop().await;
        source.start().await;
        let after = source.counts(10_000).await;
        assert_eq!(sums(&before), sums(&after));
    }
    // What the database itself has for exact, rounded once.
    let exact = "SELECT string_agg(kind || '=' || sum::float8, ',') FROM (SELECT kind, sum(ms::numeric) FROM events GROUP BY kind) AS s";
    let exact = source.db.value(exact).await;
    for pair in exact.split(',') {
        let (kind, sum) = pair.split_once('=').expect("a kind and its sum");
        let sum: f64 = sum.parse().expect("a number");
        assert_eq!(before.value("events_duration_milliseconds_sum", &[("kind", kind)]), Some(sum), "{kind}");
    }
}

/// The rows that were there when version 1 wrote the state file beside this, and showed `state_v1.metrics`.
const VERSION_1: &str = "
INSERT INTO events
  SELECT i, i NOT IN (40, 60, 80), timestamptz '2026-01-01Z' + i * interval '1 second', 'kind ' || i % 3, i * 1.001 / 7
  FROM generate_series(1, 100) AS i WHERE i <> 50;
SELECT setval('events_id_seq', 100)";

#[tokio::test]
async fn the_state_of_version_1_is_taken_up_without_a_fall_and_without_counting_again() {
    let mut source = with_durations().await;
    std::fs::write(source.state(), include_str!("state_v1")).expect("a state");
    source.db.batch(VERSION_1).await;
    // Counted rows are no longer there: whoever counts anew shows less.
    source.db.batch("DELETE FROM events WHERE id <= 30").await;
    source.start().await;
    let metrics = source.counts(96).await;
    let now = metrics.series();
    for (series, before) in Metrics::parse(include_str!("state_v1.metrics")).series() {
        // A sum that was published with its rounding is rounded up, so that it cannot fall.
        let slack = if series.contains("_sum") { 1e-8 } else { 0.0 };
        let now = now[&series];
        assert!((before..=before + slack).contains(&now), "{series}: {now} after {before}");
    }
    // What was open, what was missing, and new ones.
    source.db.batch("UPDATE events SET done = true WHERE id IN (40, 60)").await;
    source.db.batch("INSERT INTO events (id) VALUES (50)").await;
    source.insert(4).await;
    let metrics = source.counts(96 + 2 + 1 + 4).await;
    assert_eq!(metrics.sum("events_open", &[]), 1.0);
    source.db.batch("UPDATE events SET kind = 'edited', at = at + interval '1 day'").await;
    source.stop().await;
    source.start().await;
    source.counts(103).await;
}

#[tokio::test]
async fn labels_of_a_megabyte_take_no_memory() {
    let mut source = Source::counted(1).await;
    let memory = |metrics: &Metrics| metrics.value("process_resident_memory_bytes", &[]).expect("its memory");
    let before = memory(&source.exporter().metrics().await);
    source
        .db
        .batch("INSERT INTO events (kind) SELECT i || repeat('x', 1 << 20) FROM generate_series(1, 200) AS i")
        .await;
    let metrics = source.counts(201).await;
    let grown = memory(&metrics) - before;
    assert!(grown < 20e6, "memory grew by {grown} bytes");
    let longest = metrics.matching("events_total", &[]).map(|sample| sample.labels["kind"].len()).max();
    assert_eq!(longest, Some(200));
    // Nor do they as labels of rows that are open.
    source
        .db
        .batch(
            "INSERT INTO events (done, kind) SELECT false, i || repeat('y', 1 << 20) FROM generate_series(1, 200) AS i",
        )
        .await;
    source.exporter().wait_for("open rows", |m| m.sum("events_open", &[]) == 200.0).await;
    let grown = memory(&source.counts(201).await) - before;
    assert!(grown < 20e6, "memory grew by {grown} bytes");
    source.stop().await;
}
