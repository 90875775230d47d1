//! Files as psql takes them, and what the files alone show to be wrong.

use super::{own, run, shown};
use crate::support::database::Database;
use crate::support::exporter;

const SQL: &str = "SELECT id, true AS done, now() AS at FROM own";
const TOML: &str = "[[counter]]\nname = \"x_total\"\nhelp = \"X.\"\n";

#[tokio::test]
async fn files_are_read_as_psql_reads_them() {
    let db = Database::new().await;
    db.batch("CREATE TABLE own (id bigserial PRIMARY KEY); INSERT INTO own DEFAULT VALUES").await;
    for sql in [
        format!("\u{feff}{SQL};\r\n"),
        format!("{}\r\n;\r\n-- the end", SQL.replace(' ', "\r\n")),
        format!("{SQL}; -- and so; it ends\n/* ; */"),
        format!("{SQL}\n;\n;\n"),
        format!("{SQL} -- without a line end"),
    ] {
        let queries = own(&sql, &format!("\u{feff}{}", TOML.replace('\n', "\r\n")));
        let (code, text) = run(&db, &queries, &["once"]).await;
        assert!(code == Some(0) && text.contains("\nx_total 1\n"), "{sql:?}\n{text}");
    }
}

/// Each is refused with status 2 by every command that reads definitions, at the start.
#[tokio::test]
async fn what_the_files_show_is_refused_at_the_start() {
    let counter = |more: &str| format!("{TOML}{more}\n");
    let gauge =
        |more: &str| format!("{TOML}labels = [\"s\"]\n[[gauge]]\nname = \"g\"\nhelp = \"G.\"\nof = \"open\"\n{more}\n");
    let named = |name: &str| TOML.replace("x_total", name);
    let kind = |kind: &str, name: &str, more: &str| format!("[[{kind}]]\nname = \"{name}\"\nhelp = \"X.\"\n{more}\n");
    let many: String =
        (0..1000).map(|i| format!("[[counter]]\nname = \"c{i}_total\"\nhelp = \"C.\"\nsum = \"c{i}\"\n")).collect();
    let cases = [
        (SQL, format!("labels = [\"a\", \"b\", \"a\"]\n{TOML}"), "own.toml: labels: \"a\" is there twice"),
        (SQL, counter("labels = [\"s\", \"s\"]"), "own.toml: counter x_total.labels: \"s\" is there twice"),
        (SQL, gauge("labels = [\"s\", \"s\"]"), "own.toml: gauge g.labels: \"s\" is there twice"),
        (SQL, format!("labels = [\"__name__\"]\n{TOML}"), "\"__name__\" is not a valid label name"),
        (
            SQL,
            format!("labels = [\"{}\"]\n{TOML}", "a".repeat(64)),
            "is longer than a column's name in PostgreSQL (63 bytes)",
        ),
        (SQL, kind("gauge", "up", "of = \"newest\""), "own.toml: gauge up.name: is a name that Prometheus gives"),
        (
            SQL,
            kind("gauge", "scrape_age_seconds", "of = \"newest\""),
            "scrape_age_seconds.name: is a name that Prometheus",
        ),
        (SQL, kind("gauge", "ALERTS", "of = \"newest\""), "gauge ALERTS.name: is a name that Prometheus"),
        (SQL, named("rsolv_exporter_x_total"), "are for the exporter's own metrics"),
        (
            SQL,
            kind("histogram", "h", "value = \"v\"\nbuckets = [1]") + &named("h_sum_total"),
            "own.toml: histogram h.name: the name is taken already",
        ),
        (SQL, counter("sum = \"id\""), "own.toml: counter x_total.sum: \"id\" is not a value column"),
        (SQL, format!("count_if = 3\n{TOML}"), "own.toml: count_if: invalid type"),
        (SQL, many, "own.toml: reads 1000 value columns, which is more than one statement of PostgreSQL can hold"),
        ("SELECT 1; SELECT 2", TOML.to_owned(), "own.sql: holds more than one statement"),
        ("DELETE FROM own", TOML.to_owned(), "own.sql: does not begin with SELECT"),
        ("SELECT id FROM own WHERE a = $1", TOML.to_owned(), "own.sql: has the parameter $1"),
        ("SELECT /* id FROM own", TOML.to_owned(), "own.sql: a comment (/*) is not closed"),
        ("SELECT 1) AS a, (SELECT 2", TOML.to_owned(), "own.sql: has a \")\" without its \"(\""),
    ];
    for (sql, toml, problem) in &cases {
        let queries = own(sql, toml);
        for command in ["serve", "check"] {
            let settings =
                ["--database.url", "postgres://u@nowhere.invalid/db", "--queries.dir", shown(queries.path())];
            let output = exporter::run(&[&[command][..], &settings].concat()).await;
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{command}: {toml}\n{said}");
            assert!(said.contains(problem), "{command}: {problem}\n{said}");
        }
    }
}

#[tokio::test]
async fn the_widest_definition_that_is_taken_works() {
    let db = Database::new().await;
    db.batch("CREATE TABLE own (id bigserial PRIMARY KEY, v text); INSERT INTO own (v) VALUES ('1')").await;
    let (mut columns, mut toml) = (String::new(), String::new());
    for i in 0..520 {
        columns += &format!(", v AS c{i}");
        toml += &format!("[[counter]]\nname = \"c{i}_total\"\nhelp = \"C.\"\nsum = \"c{i}\"\n");
    }
    let queries = own(&format!("SELECT id, true AS done, now() AS at{columns} FROM own"), &toml);
    let (code, text) = run(&db, &queries, &["once"]).await;
    assert!(code == Some(0) && text.contains("\nc519_total 1\n"), "{code:?} {}", &text[..text.len().min(2000)]);
}

#[tokio::test]
async fn a_label_that_prometheus_renames_is_warned_of() {
    let db = Database::new().await;
    db.batch("CREATE TABLE own (id bigserial PRIMARY KEY)").await;
    let toml = format!("labels = [\"job\"]\n{TOML}");
    let queries = own("SELECT id, true AS done, now() AS at, 'a' AS job FROM own", &toml);
    let (code, text) = run(&db, &queries, &["check"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("exported_job"), "{text}");
}
