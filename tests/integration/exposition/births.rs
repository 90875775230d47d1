//! New series as Prometheus sees them, and their limit.

use std::time::Duration;

use crate::support::database::Database;
use crate::support::execution::Validation;
use crate::support::exporter::Exporter;
use crate::support::process::PATIENCE;
use crate::support::prometheus::Prometheus;
use crate::support::state::State;

const TOTAL: &str = "rsolv_validation_executions_total";
const COUNT: &str = "rsolv_validation_duration_milliseconds_count";

/// The increase from raw samples: what is added up between them, as if every fall were a reset to 0.
async fn increase(prometheus: &Prometheus, selector: &str) -> f64 {
    let series = prometheus.samples(&format!("{selector}[10m]")).await;
    let of = |samples: &[(f64, f64)]| -> f64 {
        samples.windows(2).map(|w| if w[1].1 >= w[0].1 { w[1].1 - w[0].1 } else { w[1].1 }).sum()
    };
    series.iter().map(|(_, samples)| of(samples)).sum()
}

async fn wait_increase(prometheus: &Prometheus, selector: &str, expected: f64) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let found = increase(prometheus, selector).await;
        if found == expected {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "increase of {selector} is {found}, not {expected}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn prometheus_sees_the_first_events_of_a_new_series_also_over_a_restart() {
    let (database, state) = (Database::new().await, State::new());
    let old = database.repository("org/old").await;
    database.insert(Validation::completed(old, "{}")).await;
    let flags = ["--series.birth-hold", "3s"];
    let mut exporter = state.exporter(&database, &flags).await;
    // Prometheus keeps scraping one address: the exporter comes back on the same port.
    let address = exporter.address.clone();
    let prometheus = Prometheus::scraping(&address).await;
    prometheus.wait_for(&format!("{TOTAL}{{repo=\"org/old\",status=\"completed\"}}"), |r| r.len() == 1).await;

    let new = database.repository("org/new").await;
    for _ in 0..3 {
        database.insert(Validation::completed(new, "{}")).await;
    }
    let (total, count) = (format!("{TOTAL}{{repo=\"org/new\"}}"), format!("{COUNT}{{repo=\"org/new\"}}"));
    wait_increase(&prometheus, &total, 3.0).await;
    wait_increase(&prometheus, &count, 3.0).await;
    assert_eq!(increase(&prometheus, &format!("{TOTAL}{{repo=\"org/old\"}}")).await, 0.0, "history is no increase");

    exporter.kill9().await;
    // Born while nobody was looking, beside one that goes on.
    let down = database.repository("org/down").await;
    for repo in [down, down, new] {
        database.insert(Validation::completed(repo, "{}")).await;
    }
    let again = [&flags[..], &["--web.listen-address", &address]].concat();
    let _exporter = state.exporter_listening(&database, &again).await;
    wait_increase(&prometheus, &format!("{TOTAL}{{repo=\"org/down\"}}"), 2.0).await;
    wait_increase(&prometheus, &total, 4.0).await;
    assert_eq!(increase(&prometheus, &format!("{TOTAL}{{repo=\"org/old\"}}")).await, 0.0);
}

#[tokio::test]
async fn a_new_series_stays_zero_until_a_response_has_shown_it_for_the_hold() {
    let database = Database::new().await;
    let (a, b) = (database.repository("org/a").await, database.repository("org/b").await);
    database.insert(Validation::completed(a, "{}")).await;
    let exporter = Exporter::start(&database.url(), &["--poll.interval", "100ms", "--series.birth-hold", "1h"]).await;
    let of = |repo| [("repo", repo), ("status", "completed")];
    exporter.wait_for("history at once", |m| m.value(TOTAL, &of("org/a")) == Some(1.0)).await;
    database.insert(Validation::completed(b, "{}")).await;
    let metrics = exporter.wait_for("the new series", |m| m.value(TOTAL, &of("org/b")).is_some()).await;
    for status in ["completed", "failed", "timeout"] {
        assert_eq!(metrics.value(TOTAL, &[("repo", "org/b"), ("status", status)]), Some(0.0));
    }
    assert_eq!(metrics.value(COUNT, &[("repo", "org/b")]), Some(0.0));
    let later = exporter.wait_polls(5).await;
    assert_eq!(later.value(TOTAL, &of("org/b")), Some(0.0));
    assert_eq!(later.value("rsolv_exporter_rows_counted_total", &[("source", "validation_executions")]), Some(2.0));
}

#[tokio::test]
async fn sets_above_the_limit_are_counted_under_overflow_for_life() {
    let (database, state) = (Database::new().await, State::new());
    for i in 0..5 {
        let repo = database.repository(&format!("org/{i}")).await;
        database.insert(Validation::completed(repo, "{}")).await;
    }
    let flags = ["--series.limit", "3"];
    let mut exporter = state.exporter(&database, &flags).await;
    let overflow = [("repo", "__overflow__"), ("language", "__overflow__"), ("framework", "__overflow__")];
    let all = |m: &crate::support::metrics::Metrics| m.sum(TOTAL, &[]);
    let metrics = exporter.wait_for("five rows", |m| all(m) == 5.0).await;
    assert_eq!(metrics.sum(TOTAL, &overflow), 2.0);
    assert_eq!(metrics.sum("rsolv_exporter_series_overflowed_total", &[]), 2.0);
    assert_eq!(metrics.value("rsolv_exporter_series", &[("source", "validation_executions")]), Some(4.0));
    exporter.terminate().await;
    // More room does not move a set that was folded; a new one gets its own series.
    let exporter = state.exporter(&database, &["--series.limit", "10"]).await;
    let repo = database.repository("org/4").await;
    database.insert(Validation::completed(repo, "{}")).await;
    let metrics = exporter.wait_for("six rows", |m| all(m) == 6.0).await;
    assert_eq!(metrics.sum(TOTAL, &overflow), 2.0, "nothing falls");
}

#[tokio::test]
async fn the_start_of_a_series_is_its_birth_and_what_is_counted_from_history_has_none() {
    let (database, state) = (Database::new().await, State::new());
    let repos = [database.repository("org/old").await, database.repository("org/new").await];
    database.insert(Validation::completed(repos[0], "{}")).await;
    let flags = ["--web.openmetrics-created"];
    let starts = async |exporter: &Exporter, rows: f64| {
        exporter.wait_for("data", |m| m.sum(TOTAL, &[]) == rows).await;
        let openmetrics = exporter.request("GET", "/metrics", &[("accept", "application/openmetrics-text")]).await;
        let text = openmetrics.text();
        let lines = text.lines().filter(|line| line.contains("_created{")).map(str::to_owned);
        lines.collect::<std::collections::BTreeSet<String>>()
    };
    let mut exporter = state.exporter(&database, &flags).await;
    assert!(starts(&exporter, 1.0).await.is_empty(), "history");

    let now = async || database.value("SELECT extract(epoch FROM clock_timestamp())").await.parse::<f64>().unwrap();
    let before = now().await;
    database.insert(Validation::completed(repos[0], "{}")).await;
    database.insert(Validation::completed(repos[1], "{}")).await;
    let first = starts(&exporter, 3.0).await;
    let born = before..now().await;
    assert_eq!(first.len(), 3 + 1 + 5, "each counter and the histogram: {first:?}");
    for line in &first {
        let (series, start) = line.rsplit_once(' ').unwrap();
        assert!(series.contains("repo=\"org/new\""), "{line}");
        // It is told in milliseconds.
        assert!((born.start - 0.001..born.end).contains(&start.parse().unwrap()), "{line} is not in {born:?}");
    }
    exporter.kill9().await;

    database.insert(Validation::completed(repos[1], "{}")).await;
    let mut exporter = state.exporter(&database, &flags).await;
    assert_eq!(starts(&exporter, 4.0).await, first, "the series go on");
    exporter.kill9().await;

    std::fs::remove_file(&state.path).unwrap();
    let exporter = state.exporter(&database, &flags).await;
    assert!(starts(&exporter, 4.0).await.is_empty(), "all is recounted");
}
