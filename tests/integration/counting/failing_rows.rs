//! Rows on which the SELECT itself raises: the others are counted.

use crate::support::database::Database;
use crate::support::exporter::{Exporter, run};
use crate::support::metrics::Metrics;
use crate::support::source::Definitions;
use crate::support::state::State;

const TABLE: &str =
    "CREATE TABLE jobs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, parts int, ended timestamptz);";
const SQL: &str = "SELECT j.id, j.ended AS at, j.ended IS NOT NULL AS done, 12 / j.parts AS share FROM jobs AS j";
const TOML: &str = "labels = []\n[[counter]]\nname = \"jobs_total\"\nhelp = \"Jobs.\"\n\
    [[counter]]\nname = \"jobs_share_total\"\nhelp = \"Shares.\"\nsum = \"share\"\n";

fn jobs(metrics: &Metrics) -> f64 {
    metrics.sum("jobs_total", &[])
}

fn failed(metrics: &Metrics) -> f64 {
    metrics.sum("rsolv_exporter_failed_rows_total", &[("source", "jobs")])
}

#[tokio::test]
async fn a_row_on_which_the_select_raises_is_left_out_named_and_tried_again() {
    let (database, state, queries) = (Database::new().await, State::new(), Definitions::one("jobs", SQL, TOML));
    let flags = queries.flags();
    database.batch(TABLE).await;
    // Within the history, and at its end: ids 3, 7 and 100.
    let rows = "INSERT INTO jobs (parts, ended) SELECT CASE WHEN i IN (3, 7, 100) THEN 0 ELSE 4 END, now()
                FROM generate_series(1, 100) AS i";
    database.batch(rows).await;
    let mut exporter = state.exporter(&database, &flags).await;
    let metrics = exporter.wait_for("the rows that can be read", |m| jobs(m) == 97.0).await;
    assert_eq!((failed(&metrics), metrics.sum("jobs_share_total", &[])), (3.0, 97.0 * 3.0));
    assert_eq!(metrics.value("rsolv_exporter_up", &[]), Some(1.0));

    // What comes later is counted too: a row that is done at once, and one that fails when it is done.
    database.batch("INSERT INTO jobs (parts, ended) VALUES (6, now()), (2, NULL)").await;
    exporter.wait_for("a new row", |m| jobs(m) == 98.0).await;
    database.batch("UPDATE jobs SET parts = 0, ended = now() WHERE id = 102").await;
    database.batch("INSERT INTO jobs (parts, ended) VALUES (0, now())").await;
    exporter.wait_for("rows that fail", |m| failed(m) == 5.0).await;
    let metrics = exporter.wait_polls(3).await;
    assert_eq!((failed(&metrics), jobs(&metrics)), (5.0, 98.0), "each is counted once");
    let log = exporter.log();
    for ids in ["[3, 7, 100]", "102", "103"] {
        let named =
            log.lines().filter(|line| line.contains("on which the SELECT raises") && line.contains(ids)).count();
        assert_eq!(named, 1, "{ids}: {log}");
    }
    assert!(log.contains("SQLSTATE 22012"), "{log}");

    let url = database.url();
    let output = run(&["check", "--database.url", &url, flags[0], flags[1]]).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() == Some(1) && text.contains("with id 3, 7, 100, 102, 103"), "{text}");

    // A start tries them at once.
    exporter.terminate().await;
    database.batch("UPDATE jobs SET parts = 4 WHERE id <> 103").await;
    let exporter = state.exporter(&database, &flags).await;
    let metrics = exporter.wait_for("the rows that were corrected", |m| jobs(m) == 102.0).await;
    assert_eq!(failed(&metrics), 1.0);
}

#[tokio::test]
async fn a_select_that_raises_on_every_row_is_a_failure() {
    let (database, queries) = (Database::new().await, Definitions::one("jobs", SQL, TOML));
    database.batch(TABLE).await;
    database.batch("INSERT INTO jobs (parts, ended) SELECT 0, now() FROM generate_series(1, 100)").await;
    let flags = [queries.flags(), ["--poll.interval", "100ms"]].concat();
    let exporter = Exporter::start(&database.url(), &flags).await;
    let metrics = exporter.wait_for("failures", |m| m.failures("query") > 1.0).await;
    assert_eq!((metrics.value("rsolv_exporter_up", &[]), failed(&metrics)), (Some(0.0), 0.0));
}
