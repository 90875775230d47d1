//! Rows that are not done: since when the oldest has been there, and what is open again after it was counted.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::execution::{Mitigation, Validation};
use crate::support::exporter::{Exporter, run};
use crate::support::metrics::Metrics;
use crate::support::psql::psql;
use crate::support::source::Definitions;
use crate::support::state::{State, save_state};

const OLDEST: &str = "rsolv_validation_oldest_open_timestamp_seconds";
const OPEN: &str = "rsolv_validation_executions_open";
const HOUR: Duration = Duration::from_secs(3600);

async fn printed(arguments: &[&str]) -> String {
    let output = run(arguments).await;
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What `sql SELECTOR` prints, and the number that psql makes of it.
async fn number(db: &Database<'_>, selector: &str, more: &[&str]) -> (String, f64) {
    let url = db.url();
    let sql = printed(&[&["sql", selector, "--database.url", &url], more].concat()).await;
    let output = psql(&url, &sql).await;
    let last = output.trim_end().lines().last().and_then(|line| line.rsplit('|').next()).unwrap_or_default();
    let number = last.parse().unwrap_or_else(|_| panic!("{selector}:\n{output}\n{sql}"));
    (sql, number)
}

async fn rows(db: &Database<'_>, arguments: &[&str]) -> Vec<Value> {
    let url = db.url();
    let text = printed(&[&["rows", "--format", "json", "--database.url", &url], arguments].concat()).await;
    serde_json::from_str(&text).expect("JSON")
}

fn ids(rows: &[Value]) -> Vec<i64> {
    rows.iter().map(|row| row["id"].as_i64().expect("an id")).collect()
}

/// Since when the rows with this condition have been there.
async fn since(db: &Database<'_>, condition: &str) -> f64 {
    let time = "extract(epoch FROM min(coalesce(started_at, inserted_at) AT TIME ZONE 'UTC'))::float8";
    let sql = format!("SELECT ({time})::text FROM validation_executions WHERE {condition}");
    db.value(&sql).await.parse().expect("a time")
}

#[tokio::test]
async fn the_oldest_open_row_is_the_one_that_has_waited_longest_and_there_may_be_none() {
    let db = Database::new().await;
    let repo = db.repository("org/a").await;
    // Ids are no sign of age, and neither is the end of a row.
    db.insert(Validation::completed(repo, "{}").took(9 * HOUR)).await;
    db.insert(Validation::open(repo, "running", "{}").took(HOUR)).await;
    db.insert(Validation { started_at: "NULL".into(), ..Validation::open(repo, "pending", "{}") }).await;
    db.batch("UPDATE validation_executions SET inserted_at = timezone('UTC', now()) - interval '3 hours' WHERE id = 3")
        .await;
    db.insert(Validation { started_at: "'-infinity'".into(), ..Validation::open(repo, "running", "{}") }).await;
    db.insert(Validation::open(repo, "running", "{}").took(2 * HOUR)).await;
    db.insert(Mitigation::completed(repo, "{}")).await;
    let exporter = Exporter::start(&db.reader().await, &["--poll.interval", "100ms"]).await;
    let mut before = f64::NEG_INFINITY;
    for (id, ends) in [(3, "completed"), (5, "failed"), (2, "completed")] {
        let expected = since(&db, &format!("id = {id}")).await;
        assert!(expected > before, "the next one is younger");
        before = expected;
        let is_shown = |m: &Metrics| m.value(OLDEST, &[]) == Some(expected);
        exporter.wait_for("the oldest that was read or is left", is_shown).await;
        assert!(is_shown(&exporter.wait_polls(2).await), "it is watched");
        assert_eq!(number(&db, OLDEST, &[]).await.1, expected);
        let listed = rows(&db, &[OLDEST]).await;
        assert_eq!((ids(&listed)[0], listed[0]["value"].as_f64()), (id, Some(expected)), "{listed:?}");
        let end = "completed_at = timezone('UTC', now())";
        db.batch(&format!("UPDATE validation_executions SET status = '{ends}', {end} WHERE id = {id}")).await;
    }
    let metrics = exporter.wait_for("none with a time", |m| m.value(OLDEST, &[]).is_none()).await;
    assert_eq!(metrics.sum(OPEN, &[]), 1.0, "the one that is there since ever");
    assert!(metrics.matching("rsolv_mitigation_oldest_open_timestamp_seconds", &[]).next().is_none());
    // The age on the status page is that of the gauge.
    db.insert(Validation::open(repo, "running", "{}").took(26 * HOUR)).await;
    exporter.wait_for("a new one", |m| m.value(OLDEST, &[]).is_some()).await;
    let page = String::from_utf8(exporter.get("/").await.body.to_vec()).unwrap();
    let row = &page[page.find(OLDEST).expect("the gauge")..];
    assert!(row[..row.find("ago").expect("an age")].contains("data-age=\"936"), "{}", &row[..300]);
}

#[tokio::test]
async fn the_oldest_is_told_apart_by_labels_and_what_is_left_out_is_in_none() {
    let db = Database::new().await;
    db.batch(
        "CREATE TABLE jobs (id bigserial PRIMARY KEY, kind text, ended_at timestamptz, began date, test boolean);
         INSERT INTO jobs (kind, ended_at, began, test) VALUES ('a', NULL, '2026-01-03', false),
           ('a', NULL, '2026-01-02', false), ('b', NULL, '2026-01-05', false), ('b', NULL, '2026-01-01', true),
           ('c', now(), '2025-01-01', false), (NULL, NULL, NULL, false)",
    )
    .await;
    let sql = "SELECT id, ended_at IS NOT NULL AS done, ended_at AS at, kind, began, NOT test AS wanted FROM jobs";
    let toml = "labels = [\"kind\"]\ncount_if = \"wanted\"\n[[counter]]\nname = \"jobs_total\"\nhelp = \"J.\"\n\
                [[gauge]]\nname = \"jobs_oldest\"\nhelp = \"J.\"\nof = \"oldest\"\nsince = \"began\"\nlabels = [\"kind\"]\n";
    let folder = Definitions::one("jobs", sql, toml);
    let queries = folder.flags();
    let once = printed(&[&["once", "--database.url", &db.url()], &queries[..]].concat()).await;
    let metrics = Metrics::parse(&once);
    let found: Vec<_> = metrics.matching("jobs_oldest", &[]).map(|s| (s.labels["kind"].as_str(), s.value)).collect();
    assert_eq!(found, [("a", 1_767_312_000.0), ("b", 1_767_571_200.0)]);
    for (kind, time) in found {
        assert_eq!(number(&db, &format!("jobs_oldest{{kind=\"{kind}\"}}"), &queries).await.1, time);
    }
    let (sql, all) = number(&db, "jobs_oldest", &queries).await;
    assert_eq!(all, 1_767_312_000.0, "the earliest of all");
    assert!(sql.contains("the last row, without labels, is their earliest"), "{sql}");
    let check = printed(&[&["check", "--database.url", &db.url()], &queries[..]].concat()).await;
    assert!(check.contains("jobs"), "{check}");

    // A number is no time.
    folder.write("jobs.sql", sql_with_a_number());
    let output = run(&[&["check", "--database.url", &db.url()], &queries[..]].concat()).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("the column \"began\" is not a time but integer: to_timestamp(…) AS began"), "{text}");
}

fn sql_with_a_number() -> &'static str {
    "SELECT id, ended_at IS NOT NULL AS done, ended_at AS at, kind, 1 AS began, NOT test AS wanted FROM jobs"
}

#[tokio::test]
async fn a_row_that_is_open_again_after_it_was_counted_is_in_no_gauge_nor_in_its_sql() {
    let (db, state) = (Database::new().await, State::new());
    let repo = db.repository("org/a").await;
    db.insert(Validation::completed(repo, "{}")).await;
    db.insert(Validation::open(repo, "running", "{}").took(HOUR)).await;
    db.insert(Validation::completed(repo, "{}")).await;
    db.insert(Validation::open(repo, "running", "{}")).await;
    let exporter = state.exporter(&db, &[]).await;
    let counted = |m: &Metrics| m.sum("rsolv_validation_executions_total", &[]) == 2.0;
    exporter.wait_for("the history", counted).await;
    // Between ids that are looked for, so that every poll sees them.
    let again = "status = 'running', completed_at = NULL, started_at = timezone('UTC', now()) - interval '1 day'";
    db.batch(&format!("UPDATE validation_executions SET {again} WHERE id IN (1, 3)")).await;
    let metrics = exporter.wait_polls(3).await;
    assert!(counted(&metrics));
    let oldest = since(&db, "id = 2").await;
    assert_eq!((metrics.sum(OPEN, &[]), metrics.value(OLDEST, &[])), (2.0, Some(oldest)));

    let known = ["--state.file", state.path.to_str().unwrap()];
    for (selector, expected) in [(OPEN, 2.0), (OLDEST, oldest)] {
        let (sql, ours) = number(&db, selector, &known).await;
        assert_eq!(ours, expected, "{sql}");
        assert!(sql.contains("-- Rows that were counted before and are open again are left out"), "{sql}");
    }
    assert_eq!(ids(&rows(&db, &[&[OPEN], &known[..]].concat()).await), [4, 2]);
    assert_eq!(ids(&rows(&db, &[&[OLDEST], &known[..]].concat()).await), [2, 4]);
    let (sql, without) = number(&db, OPEN, &[]).await;
    assert_eq!(without, 4.0);
    assert!(
        sql.contains("-- Rows that were counted before and are open again are in here, and not in the gauge"),
        "{sql}"
    );
    // The second ending is none.
    db.batch("UPDATE validation_executions SET status = 'failed' WHERE id IN (1, 3)").await;
    assert!(counted(&exporter.wait_polls(2).await));
}

#[tokio::test]
async fn one_row_is_shown_by_its_id_as_every_source_sees_it() {
    let db = Database::new().await;
    let repo = db.repository("org/a").await;
    let data = json!({"language": " ruby ", "tests_generated": "many", "testsPassed": 3});
    db.insert(Validation::completed(repo, data)).await;
    db.insert(Validation::open(repo, "running", "{}")).await;
    db.insert(Validation::completed(repo, "{}")).await;
    db.insert(Mitigation::completed(repo, "{}")).await;
    let state = State::new();
    save_state(&db.url(), &state.path, &[]).await;
    db.batch("UPDATE validation_executions SET status = 'pending' WHERE id = 3").await;
    db.insert(Mitigation { pr_number: Some(7), ..Mitigation::completed(repo, "{}") }).await;
    let known = ["--state.file", state.path.to_str().unwrap()];

    let both = rows(&db, &[&["--id", "1"], &known[..]].concat()).await;
    assert_eq!(both.len(), 2, "{both:?}");
    let [validation, mitigation] = [&both[0], &both[1]];
    assert_eq!([&validation["source"], &mitigation["source"]], ["validation_executions", "mitigation_executions"]);
    for (column, expected) in [
        ("id", json!(1)),
        ("seen as", json!("finished, counted")),
        ("repo", json!("org/a")),
        ("language", json!("ruby")),
        ("framework", json!("none")),
        ("status", json!("completed")),
        ("duration_ms", json!(5000)),
        ("tests_generated", json!(null)),
        ("tests_passed", json!(3)),
        ("rejected", json!("tests_generated is text that is no number: \"many\"")),
    ] {
        assert_eq!(validation[column], expected, "{column}: {validation}");
    }
    assert_eq!((&mitigation["language"], &mitigation["rejected"]), (&json!("unknown"), &json!(null)));
    let seen = async |id: &str, i: usize, more: &[&str]| {
        rows(&db, &[&["--id", id], more].concat()).await[i]["seen as"].as_str().unwrap().to_owned()
    };
    assert_eq!(seen("2", 0, &known).await, "open");
    assert_eq!(seen("2", 1, &known).await, "finished, not counted yet");
    assert_eq!(seen("3", 0, &known).await, "open again, counted before");
    assert_eq!(seen("2", 1, &[]).await, "finished");

    // With a series: whether the row is behind it.
    let total = "rsolv_validation_executions_total";
    assert_eq!(ids(&rows(&db, &[total, "--id", "1"]).await), [1]);
    assert!(rows(&db, &[total, "--id", "2"]).await.is_empty());
    assert_eq!(ids(&rows(&db, &[OPEN, "--id", "2"]).await), [2]);
    let rejected = rows(&db, &["rsolv_exporter_rejected_values_total", "--id", "1"]).await;
    assert_eq!((rejected.len(), &rejected[0]["column"]), (1, &json!("tests_generated")));

    // For people, a line for each column.
    let table = printed(&["rows", "--id", "2", "--database.url", &db.url()]).await;
    let line = table.lines().find(|line| line.trim_start().starts_with("pr_created")).expect("a line");
    assert!(line.trim_end().ends_with("true"), "{table}");
    let output = run(&["rows", "--id", "99", "--database.url", &db.url()]).await;
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(notes.contains("no row has id 99 in validation_executions, mitigation_executions"), "{notes}");
    let output = run(&["rows", "--id", "x", "--database.url", &db.url()]).await;
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test]
async fn the_role_of_before_is_told_what_it_lacks() {
    let db = Database::new().await;
    let url = db.reader().await;
    let name = format!("reader_{}", db.name);
    db.batch(&format!("REVOKE SELECT (inserted_at) ON validation_executions FROM {name}")).await;
    let output = run(&["check", "--database.url", &url]).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("GRANT SELECT") && text.contains("inserted_at"), "{text}");
}
