//! Definitions that would count wrongly, which only the database can tell: `check` says why, and `serve` counts nothing.

use super::{own, run, shown};
use crate::support::database::Database;
use crate::support::exporter::Exporter;
use crate::support::psql::psql;

const TOML: &str = "labels = [\"s\"]\n[[counter]]\nname = \"x_total\"\nhelp = \"X.\"\n";

/// A queue with everything around it that a SELECT could reach for.
const TABLES: &str = "
CREATE TABLE jobs (
  id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, uuid uuid, n int, optional int UNIQUE, state text NOT NULL DEFAULT 'queued',
  kind text, ended timestamptz, data jsonb
);
CREATE INDEX ON jobs (n);
CREATE TABLE attempts (job_id bigint NOT NULL, attempt int NOT NULL, state text, PRIMARY KEY (job_id, attempt));
CREATE TABLE archived (LIKE jobs INCLUDING ALL);
CREATE TABLE days (id bigint, day date, state text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE days_1 PARTITION OF days FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE days_2 PARTITION OF days FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE ranges (id bigint PRIMARY KEY, state text) PARTITION BY RANGE (id);
CREATE TABLE ranges_1 PARTITION OF ranges FOR VALUES FROM (1000000000) TO (2000000000);
CREATE TABLE documents (data jsonb NOT NULL);
CREATE UNIQUE INDEX ON documents (((data ->> 'n')::bigint));
CREATE UNIQUE INDEX ON jobs (n) WHERE kind = 'unique';
CREATE VIEW all_jobs AS SELECT id, state, ended, kind FROM jobs;
CREATE VIEW failed_jobs AS SELECT id, state, ended FROM jobs WHERE state = 'failed';
CREATE MATERIALIZED VIEW summary AS SELECT id, state, ended FROM jobs;
CREATE UNIQUE INDEX ON summary (id);
CREATE FUNCTION wanted(text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN true; END';
";

#[tokio::test]
async fn what_would_count_wrongly_is_refused_by_check_and_by_serve() {
    let db = Database::new().await;
    db.batch(TABLES).await;
    let finished = "state IN ('done', 'failed') AS done, ended AS at, state AS s";
    let mut cases: Vec<(String, &str)> = vec![
        (format!("SELECT id, {finished} FROM jobs ORDER BY id DESC LIMIT 100"), "LIMIT or OFFSET leaves out rows"),
        (format!("SELECT id, {finished} FROM (SELECT * FROM jobs OFFSET 10) AS j"), "LIMIT or OFFSET leaves out rows"),
        ("SELECT j.id, bool_or(j.state = 'done') AS done, max(j.ended) AS at, max(a.state) AS s FROM jobs AS j LEFT JOIN attempts AS a ON a.job_id = j.id GROUP BY j.id".into(), "GROUP BY, DISTINCT"),
        (format!("SELECT DISTINCT ON (kind) id, {finished} FROM jobs ORDER BY kind, id DESC"), "GROUP BY, DISTINCT"),
        (format!("SELECT DISTINCT id, {finished} FROM jobs"), "GROUP BY, DISTINCT"),
        (format!("SELECT id, {finished} FROM jobs EXCEPT SELECT id, {finished} FROM archived"), "GROUP BY, DISTINCT, UNION"),
        ("SELECT max(id) AS id, true AS done, max(ended) AS at, kind AS s FROM jobs GROUP BY kind".into(), "GROUP BY, DISTINCT"),
        (format!("SELECT id, {finished}, row_number() OVER (PARTITION BY kind ORDER BY id) AS r FROM jobs"), "a window function (OVER)"),
        (format!("SELECT row_number() OVER () AS id, {finished} FROM jobs"), "a window function (OVER)"),
        (format!("SELECT id, {finished}, generate_series(1, 2) AS r FROM jobs"), "returns several rows"),
        (format!("WITH j AS MATERIALIZED (SELECT * FROM jobs) SELECT id, {finished} FROM j"), "comes out of WITH"),
        (format!("SELECT id, {finished} FROM jobs WHERE random() < 0.5"), "random() decides which rows there are and is VOLATILE"),
        (format!("SELECT id, {finished} FROM jobs WHERE wanted(kind)"), "wanted() decides which rows there are and is VOLATILE"),
        (format!("SELECT id, {finished} FROM jobs UNION ALL SELECT id, {finished} FROM archived"), "the ids are those of several tables (jobs, archived)"),
        (format!("SELECT n AS id, {finished} FROM jobs"), "\"id\" (n of jobs) has no unique index of its own"),
        (format!("SELECT optional AS id, {finished} FROM jobs"), "\"id\" (optional of jobs) can be NULL"),
        (format!("SELECT id + 1 AS id, {finished} FROM jobs"), "has no unique index of its own"),
        ("SELECT job_id AS id, state = 'done' AS done, now() AS at, state AS s FROM attempts".into(), "\"id\" (job_id of attempts) has no unique index of its own"),
        ("SELECT j.id, a.state = 'done' AS done, now() AS at, a.state AS s FROM attempts AS a LEFT JOIN jobs AS j ON j.id = a.job_id".into(), "is of a table that is joined so that it can be missing"),
        ("SELECT uuid AS id, true AS done, ended AS at, state AS s FROM jobs".into(), "\"id\" is uuid"),
    ];
    cases.push((
        "SELECT j.n + a.attempt AS id, true AS done, now() AS at, kind AS s FROM jobs AS j, attempts AS a".into(),
        "has no unique index of its own",
    ));
    cases.push((
        "SELECT 5 AS id, true AS done, now() AS at, kind AS s FROM jobs".into(),
        "has no unique index of its own",
    ));
    cases.push((
        format!("SELECT id, {finished} FROM (SELECT * FROM jobs OFFSET 0) AS j"),
        "a subquery (OFFSET 0?) is in the way between \"id\" and its table",
    ));
    cases.push((format!("SELECT id, {finished} FROM generate_series(1, 9) AS id CROSS JOIN (VALUES ('done', now())) AS v (state, ended)"), "is the column of no table"));
    for (sql, problem) in &cases {
        let queries = own(sql, TOML);
        let (code, text) = run(&db, &queries, &["check"]).await;
        assert_eq!(code, Some(1), "{sql}\n{text}");
        assert!(text.contains("own.sql: ") && text.contains(problem), "{problem}\n{sql}\n{text}");
        let (code, text) = run(&db, &queries, &["once"]).await;
        assert_eq!(code, Some(1), "{sql}\n{text}");
        assert!(text.contains(problem), "{problem}\n{sql}\n{text}");
    }
}

#[tokio::test]
async fn what_counts_exactly_is_taken() {
    let db = Database::new().await;
    db.batch(TABLES).await;
    let finished = "j.state IN ('done', 'failed') AS done, j.ended AS at, j.state AS s";
    let cases = [
        format!("SELECT j.id, {finished} FROM jobs AS j"),
        format!("SELECT j.id, {finished} FROM jobs AS j ORDER BY ended"),
        format!("SELECT * FROM (SELECT j.id, {finished} FROM jobs AS j) AS execution"),
        format!("WITH j AS (SELECT * FROM jobs) SELECT j.id, {finished} FROM j"),
        format!(
            "SELECT j.id, {finished}, a.n FROM jobs AS j LEFT JOIN LATERAL (SELECT count(*) AS n FROM attempts WHERE job_id = j.id) AS a ON true"
        ),
        format!("SELECT j.id, {finished}, (SELECT max(attempt) FROM attempts WHERE job_id = j.id) AS n FROM jobs AS j"),
        format!(
            "SELECT j.id, {finished}, a.state FROM jobs AS j LEFT JOIN LATERAL (SELECT state FROM attempts WHERE job_id = j.id ORDER BY attempt DESC LIMIT 1) AS a ON true"
        ),
        format!("SELECT j.id, {finished}, random() AS r, clock_timestamp() AS now FROM jobs AS j"),
        format!("SELECT j.id, {finished}, o.state FROM jobs AS j LEFT JOIN archived AS o ON o.id = j.id"),
        format!("SELECT j.id, {finished} FROM all_jobs AS j"),
        format!("SELECT j.id, {finished} FROM summary AS j"),
        "SELECT id, state = 'done' AS done, now() AS at, state AS s FROM days".to_owned(),
        "SELECT id, state = 'done' AS done, now() AS at, state AS s FROM ranges".to_owned(),
        "SELECT (data ->> 'n')::bigint AS id, true AS done, now() AS at, 'a' AS s FROM documents".to_owned(),
        format!("SELECT j.id, {finished} FROM jobs AS j WHERE true"),
    ];
    for sql in &cases {
        let queries = own(sql, TOML);
        let (code, text) = run(&db, &queries, &["check"]).await;
        assert_eq!(code, Some(0), "{sql}\n{text}");
        let (code, text) = run(&db, &queries, &["once"]).await;
        assert_eq!(code, Some(0), "{sql}\n{text}");
    }
}

#[tokio::test]
async fn a_where_that_leaves_gaps_is_warned_of() {
    let db = Database::new().await;
    db.batch(TABLES).await;
    let done = "id, state IN ('done', 'failed') AS done, ended AS at, state AS s";
    for (sql, said) in [
        (format!("SELECT {done} FROM jobs WHERE kind = 'mail'"), "WHERE leaves out rows"),
        (format!("SELECT {done} FROM jobs WHERE state <> 'queued'"), "WHERE and \"done\" both depend on state"),
        ("SELECT id, true AS done, ended AS at, state AS s FROM failed_jobs".to_owned(), "WHERE leaves out rows"),
        (
            "SELECT id, true AS done, ended AS at, state AS s FROM jobs AS j
             WHERE EXISTS (SELECT FROM attempts AS a WHERE a.job_id = j.id)"
                .to_owned(),
            "WHERE leaves out rows",
        ),
    ] {
        let (code, text) = run(&db, &own(&sql, TOML), &["check"]).await;
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("count_if") && text.contains(said), "{text}");
    }
}

#[tokio::test]
async fn keys_that_are_null_behind_an_expression_are_found() {
    let db = Database::new().await;
    db.batch(TABLES).await;
    db.batch("INSERT INTO documents VALUES ('{\"n\": 1}'), ('{}')").await;
    let sql = "SELECT (data ->> 'n')::bigint AS id, true AS done, now() AS at, 'a' AS s FROM documents";
    let (code, text) = run(&db, &own(sql, TOML), &["check"]).await;
    assert!(code == Some(1) && text.contains("is NULL in some rows, which are never counted"), "{text}");
}

#[tokio::test]
async fn a_refused_source_is_down_and_says_why_until_it_is_mended() {
    let db = Database::new().await;
    db.batch("CREATE TABLE jobs (id bigserial, state text NOT NULL); INSERT INTO jobs (state) VALUES ('done')").await;
    let queries = own("SELECT id, state = 'done' AS done, now() AS at, state AS s FROM jobs", TOML);
    let flags = ["--queries.dir", shown(queries.path()), "--poll.interval", "100ms"];
    let exporter = Exporter::start(&db.url(), &flags).await;
    let metrics = exporter
        .wait_for("a failed poll", |metrics| metrics.sum("rsolv_exporter_poll_failures_total", &[]) > 0.0)
        .await;
    assert_eq!(metrics.sum("rsolv_exporter_up", &[]) + metrics.sum("rsolv_exporter_source_up", &[]), 0.0);
    assert!(exporter.log().contains("has no unique index of its own"), "{}", exporter.log());
    db.batch("ALTER TABLE jobs ADD PRIMARY KEY (id)").await;
    exporter.wait_for("the count", |metrics| metrics.sum("x_total", &[]) == 1.0).await;
}

/// The steps of doc/definitions.md, in psql.
#[tokio::test]
async fn a_table_with_a_uuid_is_counted_after_the_documented_steps() {
    let db = Database::new().await;
    db.batch(
        "CREATE TABLE jobs (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), state text NOT NULL);
         INSERT INTO jobs (state) SELECT 'done' FROM generate_series(1, 100)",
    )
    .await;
    let document = include_str!("../../../../doc/definitions.md");
    let steps = document.split("```sql\n").find(|block| block.starts_with("CREATE SEQUENCE")).expect("the steps");
    psql(&db.url(), steps.split("```").next().unwrap_or_default()).await;
    let toml = format!("sequence = \"jobs_event_id_seq\"\n{TOML}");
    let queries = own("SELECT event_id AS id, state = 'done' AS done, now() AS at, state AS s FROM jobs", &toml);
    let (code, text) = run(&db, &queries, &["check"]).await;
    assert_eq!(code, Some(0), "{text}");
    db.batch("INSERT INTO jobs (state) VALUES ('done')").await;
    let (_, text) = run(&db, &queries, &["once"]).await;
    assert!(text.contains("\nx_total{s=\"done\"} 101\n"), "{text}");
}
