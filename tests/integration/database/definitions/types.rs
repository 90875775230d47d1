//! Types of columns: what is turned into numbers, what is refused because it never could be, and `count_if`.

use super::{own, run, shown};
use crate::support::database::Database;
use crate::support::exporter::Exporter;
use crate::support::metrics::Metrics;

const SUM: &str = "[[counter]]\nname = \"x_total\"\nhelp = \"X.\"\nsum = \"v\"\n";

#[tokio::test]
async fn values_of_every_type_that_holds_a_number() {
    let db = Database::new().await;
    db.batch("CREATE DOMAIN price AS numeric CHECK (VALUE > 0); CREATE DOMAIN fee AS price; CREATE TYPE size AS ENUM ('1', '20')")
        .await;
    for (kind, value, sum) in [
        ("interval", "'1 day 00:00:01.5'", 86401.5),
        ("boolean", "true", 1.0),
        ("fee", "2.5", 2.5),
        ("size", "'20'", 20.0),
        ("text", "' 1e2 '", 100.0),
        ("oid", "7", 7.0),
        ("float4", "0.5", 0.5),
        ("json", "' \"\\u0034.5\\n\" '", 4.5),
        ("jsonb", "'\"4.5\"'", 4.5),
    ] {
        db.batch(&format!("DROP TABLE IF EXISTS own; CREATE TABLE own (id bigserial PRIMARY KEY, v {kind})")).await;
        db.batch(&format!("INSERT INTO own (v) VALUES ({value}), (NULL)")).await;
        let queries = own("SELECT id, true AS done, now() AS at, v FROM own", SUM);
        let (code, text) = run(&db, &queries, &["once"]).await;
        assert_eq!(code, Some(0), "{kind}: {text}");
        let metrics = Metrics::parse(&text);
        assert_eq!(metrics.sum("x_total", &[]), sum, "{kind}");
        assert_eq!(metrics.sum("rsolv_exporter_rejected_values_total", &[]), 0.0, "{kind}");
        let (code, text) = run(&db, &queries, &["check"]).await;
        assert_eq!(code, Some(0), "{kind}: {text}");
    }
}

#[tokio::test]
async fn what_json_holds_and_jsonb_could_not_is_rejected_and_fails_nothing() {
    let db = Database::new().await;
    db.batch("CREATE TABLE own (id bigserial PRIMARY KEY, v json)").await;
    let valid = ["5", " 5 ", "\"5\"", "\"\\u0035\"", "\"\\t5\\r\\n\"", "5e0"];
    let missing = ["null", " null ", "\"\""];
    let odd = [
        r#""\u0000""#,
        r#""5\u0000""#,
        r#""\ud800""#,
        r#""\udc00\ud800""#,
        r#""\ud83e\udd80""#,
        r#""\\u0000""#,
        "1e999999",
        "-1e999999",
        "1e-999999",
        r#""1e999999""#,
        "true",
        "[1]",
        "{\"a\": 1}",
        r#""many""#,
        r#""\u00355""#,
        "-1",
        "9e99",
    ];
    for json in valid.iter().chain(&missing).chain(&odd) {
        db.batch(&format!("INSERT INTO own (v) VALUES (E'{}')", json.replace('\\', "\\\\"))).await;
    }
    let queries =
        own("SELECT id, true AS done, now() AS at, v FROM own", &format!("[columns]\nv = {{ max = 50 }}\n{SUM}"));
    let (code, text) = run(&db, &queries, &["once"]).await;
    assert_eq!(code, Some(0), "{text}");
    let metrics = Metrics::parse(&text);
    assert_eq!(metrics.sum("x_total", &[]), 5.0 * valid.len() as f64);
    assert_eq!(metrics.sum("rsolv_exporter_rejected_values_total", &[]), odd.len() as f64);
    let (code, text) = run(&db, &queries, &["check"]).await;
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = run(&db, &queries, &["rows", "x_total"]).await;
    assert_eq!(code, Some(0), "{text}");
}

#[tokio::test]
async fn columns_of_the_wrong_type_are_refused_with_the_remedy() {
    let db = Database::new().await;
    db.batch("CREATE TABLE own (id bigserial PRIMARY KEY, u uuid, m money, t timestamptz, s text, n int, j numeric)")
        .await;
    for (sql, problem) in [
        (
            "SELECT id, true AS done, now() AS at, m AS v FROM own",
            "own.sql: the value column \"v\" is money, of which every value would be rejected: (…)::numeric makes one of it",
        ),
        ("SELECT id, true AS done, now() AS at, u AS v FROM own", "the value column \"v\" is uuid"),
        ("SELECT id, true AS done, now() AS at, t AS v FROM own", "extract(epoch FROM finished - started)"),
        (
            "SELECT id, true AS done, n AS at, n AS v FROM own",
            "own.sql: the column \"at\" is not a time but integer: to_timestamp(…) AS at",
        ),
        (
            "SELECT id, true AS done, s AS at, n AS v FROM own",
            "own.sql: the column \"at\" is not a time but text: to_timestamp(…",
        ),
        (
            "SELECT id, s AS done, now() AS at, n AS v FROM own",
            "own.sql: the column \"done\" is not boolean but text: select state IN (",
        ),
        (
            "SELECT u AS id, true AS done, now() AS at, n AS v FROM own",
            "own.sql: the column \"id\" is uuid, and says nothing of the order in which rows were inserted. Three ways",
        ),
        ("SELECT j AS id, true AS done, now() AS at, n AS v FROM own", "own.sql: the column \"id\" is numeric"),
        ("SELECT id, id, true AS done, now() AS at, n AS v FROM own", "own.sql: the SELECT has several columns \"id\""),
    ] {
        let queries = own(sql, SUM);
        for command in ["check", "once"] {
            let (code, text) = run(&db, &queries, &[command]).await;
            assert_eq!(code, Some(1), "{command} {sql}\n{text}");
            assert!(text.contains(problem), "{command}: {problem}\n{text}");
        }
    }
}

#[tokio::test]
async fn rows_left_out_by_count_if_are_in_no_number_and_in_no_gap() {
    let db = Database::new().await;
    db.batch("CREATE TABLE own (id bigserial PRIMARY KEY, team text, kind text, done boolean DEFAULT true, ms int DEFAULT 5)").await;
    db.batch("INSERT INTO own (team, kind) SELECT 'a', CASE i % 2 WHEN 0 THEN 'job' WHEN 1 THEN 'ping' END FROM generate_series(1, 100) AS i").await;
    db.batch("INSERT INTO own (team, kind, done) VALUES ('a', 'job', false), ('a', 'ping', false), ('b', 'ping', true), ('a', NULL, true)").await;
    let toml = "labels = [\"team\"]\ncount_if = \"wanted\"\n\
                [[counter]]\nname = \"x_total\"\nhelp = \"X.\"\n\
                [[histogram]]\nname = \"x_ms\"\nhelp = \"X.\"\nvalue = \"ms\"\nbuckets = [10]\n\
                [[gauge]]\nname = \"x_open\"\nhelp = \"X.\"\nof = \"open\"\n";
    let queries = own("SELECT id, done, now() AS at, team, ms, kind = 'job' AS wanted FROM own", toml);
    let state = queries.path().join("state");
    let flags = [
        "--queries.dir",
        shown(queries.path()),
        "--poll.interval",
        "100ms",
        "--series.birth-hold",
        "0s",
        "--state.file",
        shown(&state),
    ];
    let mut exporter = Exporter::start(&db.url(), &flags).await;
    let metrics = exporter.wait_for("the first read", |metrics| metrics.sum("x_total", &[]) == 50.0).await;
    assert_eq!((metrics.sum("x_ms_count", &[]), metrics.sum("x_open", &[])), (50.0, 1.0));
    assert_eq!(metrics.matching("x_total", &[]).count(), 1, "a team without a row that counts has no series");
    assert_eq!(metrics.sum("rsolv_exporter_gaps", &[]), 0.0);
    // An open row can turn out to count, or not, only when it is done.
    db.batch("UPDATE own SET done = true, kind = 'job' WHERE NOT done AND kind = 'ping'").await;
    db.batch("UPDATE own SET done = true, kind = 'ping' WHERE NOT done").await;
    exporter.wait_for("the open one that counts", |metrics| metrics.sum("x_total", &[]) == 51.0).await;
    exporter.terminate().await;
    let (code, text) = run(&db, &queries, &["sql", "x_total", "--state.file", shown(&state)]).await;
    assert!(code == Some(0) && text.contains("no row that was counted is gone"), "{text}");
    let (_, text) = run(&db, &queries, &["rows", "x_total", "--format", "csv", "--limit", "1000"]).await;
    assert_eq!(text.lines().filter(|line| line.contains(",job,") || line.contains(",true")).count(), 51, "{text}");
    // Another condition is another meaning of every row.
    queries.write("own.toml", toml.replace("wanted", "done"));
    let exporter = Exporter::start(&db.url(), &flags).await;
    exporter.wait_for("all rows", |metrics| metrics.sum("x_total", &[]) == 104.0).await;
}

#[tokio::test]
async fn count_if_must_be_a_boolean_column() {
    let db = Database::new().await;
    db.batch("CREATE TABLE own (id bigserial PRIMARY KEY, v int)").await;
    for (column, problem) in [
        ("v", "own.sql: the column \"v\" is not boolean but integer"),
        ("w", "own.toml: count_if: the SELECT has no column \"w\""),
    ] {
        let queries =
            own("SELECT id, true AS done, now() AS at, v FROM own", &format!("count_if = \"{column}\"\n{SUM}"));
        let (code, text) = run(&db, &queries, &["check"]).await;
        assert!(code == Some(1) && text.contains(problem), "{text}");
    }
}
