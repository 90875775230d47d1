//! `init`: a first definition, which `check` then takes, or refuses with the reason.

use std::path::Path;

use crate::support::database::Database;
use crate::support::exporter::run;
use crate::support::metrics::Metrics;

/// A command with a folder of definitions: its exit status and all that it printed.
async fn command(url: &str, folder: &Path, command: &[&str]) -> (Option<i32>, String) {
    let settings = ["--database.url", url, "--queries.dir", folder.to_str().unwrap()];
    let output = run(&[command, &settings].concat()).await;
    let printed = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code(), printed.concat())
}

const JOBS: &str = "
CREATE TABLE queues (id serial PRIMARY KEY);
CREATE TABLE jobs (
  id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, queue_id int REFERENCES queues, state text NOT NULL, priority text,
  payload jsonb, error text, attempts int NOT NULL DEFAULT 1, created_at timestamp NOT NULL DEFAULT now(),
  started_at timestamp, finished_at timestamp, updated_at timestamp NOT NULL DEFAULT now()
);
INSERT INTO jobs (state, priority, error, attempts, started_at, finished_at)
SELECT (ARRAY['succeeded', 'failed', 'queued', 'succeeded'])[1 + i % 4], (ARRAY['low', 'high'])[1 + i % 2], 'error ' || i, 1 + i % 3,
  now() - interval '1 hour', now() - interval '1 hour' + i * interval '1 second' FROM generate_series(1, 400) AS i;
";

#[tokio::test]
async fn a_job_queue_is_described_so_that_check_takes_it_as_it_is() {
    let db = Database::new().await;
    db.batch(JOBS).await;
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = command(&db.url(), folder.path(), &["init", "jobs"]).await;
    assert_eq!(code, Some(0), "{said}");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let said = said.replace(folder.path().to_str().unwrap(), "FOLDER");
    insta::assert_snapshot!(format!("{}\n---\n{}\n---\n{said}", read("jobs.sql"), read("jobs.toml")));
    let (code, text) = command(&db.url(), folder.path(), &["check"]).await;
    assert_eq!(code, Some(0), "{text}");
    let output = run(&["once", "--database.url", &db.url(), "--queries.dir", folder.path().to_str().unwrap()]).await;
    let metrics = Metrics::parse(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(metrics.sum("jobs_total", &[("state", "succeeded")]), 200.0);
    assert_eq!(metrics.sum("jobs_total", &[("state", "failed")]), 100.0);
    assert_eq!(metrics.sum("jobs_open", &[("state", "queued")]), 100.0);
    assert_eq!(metrics.sum("jobs_duration_seconds_count", &[]), 300.0);
    // What is there is not overwritten.
    let (code, said) = command(&db.url(), folder.path(), &["init", "jobs"]).await;
    assert!(code == Some(1) && said.contains("is there already"), "{said}");
}

#[tokio::test]
async fn the_grant_that_it_prints_is_enough_for_a_role_that_may_nothing() {
    let db = Database::new().await;
    db.batch(JOBS).await;
    let role = db.role(&[]).await;
    db.batch("CREATE SCHEMA \"Odd\"; ALTER TABLE jobs SET SCHEMA \"Odd\"").await;
    let url = db.url_as(&role);
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = command(&url, folder.path(), &["init", "\"Odd\".jobs"]).await;
    assert_eq!(code, Some(0), "{said}");
    for grant in said.lines().filter(|line| line.starts_with("GRANT")) {
        db.batch(grant).await;
    }
    let (code, text) = command(&url, folder.path(), &["check"]).await;
    assert!(code == Some(0) && !text.contains("GRANT"), "{text}");
    db.batch(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn tables_of_every_kind_are_good_or_explained() {
    let db = Database::new().await;
    for (name, table, problem) in [
        ("plain", "CREATE TABLE plain (id serial PRIMARY KEY)", None),
        ("audit", "CREATE TABLE audit (id bigserial PRIMARY KEY, action text, at timestamptz NOT NULL DEFAULT now())", None),
        (
            "deliveries",
            "CREATE TYPE fate AS ENUM ('pending', 'sent', 'bounced');
             CREATE TABLE deliveries (number bigserial PRIMARY KEY, fate fate, ok boolean, \"Sent At\" timestamptz, delivered_at timestamptz,
               took interval, price numeric, cost money, job text, id uuid)",
            None,
        ),
        (
            "parts",
            "CREATE TABLE parts (id bigint GENERATED ALWAYS AS IDENTITY, day date, status text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
             CREATE TABLE parts_1 PARTITION OF parts DEFAULT",
            None,
        ),
        ("up", "CREATE TABLE up (id serial PRIMARY KEY, done boolean NOT NULL)", None),
        ("seen", "CREATE TABLE hidden (id serial PRIMARY KEY, state text); CREATE VIEW seen AS TABLE hidden", None),
        ("tokens", "CREATE TABLE tokens (id uuid PRIMARY KEY, status text)", Some("doc/definitions.md")),
        ("pairs", "CREATE TABLE pairs (job_id bigint, attempt int, state text, PRIMARY KEY (job_id, attempt))", Some("has no unique index of its own")),
        (
            "odd",
            "CREATE TABLE odd (id serial PRIMARY KEY, status text, started_at timestamptz, finished_at timestamp, \"Type\" text);
             INSERT INTO odd (status, started_at, finished_at, \"Type\") VALUES ('Running', now(), NULL, 'a'),
               ('ok', '-infinity', 'infinity', 'a'), ('ok', NULL, now(), 'b'), ('ok', 'infinity', 'infinity', NULL)",
            None,
        ),
        ("bare", "CREATE TABLE bare (note text)", Some("bare.sql")),
    ] {
        db.batch(table).await;
        let folder = tempfile::tempdir().unwrap();
        let (code, said) = command(&db.url(), folder.path(), &["init", name]).await;
        assert_eq!(code, Some(0), "{name}: {said}");
        let (code, text) = command(&db.url(), folder.path(), &["check"]).await;
        let sql = std::fs::read_to_string(folder.path().join(format!("{name}.sql"))).unwrap();
        match problem {
            None => assert_eq!(code, Some(0), "{name}: {sql}\n{text}"),
            Some(problem) => {
                assert!(code == Some(1) && text.contains(problem), "{name}: {sql}\n{text}");
                assert!(said.contains("note: "), "{name}: {said}");
            }
        }
    }
}

#[tokio::test]
async fn a_table_that_is_not_there_is_named() {
    let db = Database::new().await;
    let folder = tempfile::tempdir().unwrap();
    for name in ["nothing", "public.nothing", "a b"] {
        let (code, said) = command(&db.url(), folder.path(), &["init", name]).await;
        assert!(code == Some(1) && said.contains(&format!("there is no table {name}")), "{said}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
