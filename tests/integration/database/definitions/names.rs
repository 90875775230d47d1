//! Names in a definition: none clashes with those of the program, and a column can mean several things at once.

use std::fmt::Write;

use super::{own, run};
use crate::support::database::Database;
use crate::support::metrics::Metrics;
use crate::support::psql::psql;

/// Words that the composed statements use, or once did.
const NAMES: [&str; 34] = [
    "known",
    "lo",
    "hi",
    "range",
    "execution",
    "value",
    "ids",
    "newest",
    "counts",
    "sums",
    "rejected",
    "bound",
    "bucket",
    "seen",
    "trimmed",
    "cut",
    "folded",
    "n",
    "one",
    "rows",
    "lowest",
    "recent",
    "reached",
    "piece",
    "found",
    "step",
    "birth",
    "series",
    "status",
    "sum",
    "name",
    "reason",
    "type",
    "place",
];

#[tokio::test]
async fn no_name_clashes_and_a_column_is_label_value_and_condition_at_once() {
    let db = Database::new().await;
    let columns: Vec<String> = NAMES.iter().map(|name| format!("\"{name}\" boolean NOT NULL DEFAULT true")).collect();
    db.batch(&format!(
        "CREATE TABLE own (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, {});
         INSERT INTO own SELECT FROM generate_series(1, 3); INSERT INTO own (\"known\", \"value\") VALUES (false, false)",
        columns.join(", ")
    ))
    .await;
    let labels: Vec<String> = NAMES.iter().map(|name| format!("\"{name}\"")).collect();
    let mut toml = format!("labels = [{}]\n", labels.join(", "));
    for name in NAMES {
        let _ = write!(
            toml,
            "[[counter]]\nname = \"of_{name}_total\"\nhelp = \"Sum.\"\nsum = \"{name}\"\n\
             [[counter]]\nname = \"if_{name}_total\"\nhelp = \"Rows.\"\nwhere = \"{name}\"\n\
             [[histogram]]\nname = \"h_{name}_v\"\nhelp = \"Both.\"\nvalue = \"{name}\"\nwhere = \"{name}\"\nbuckets = [0, 1]\n"
        );
    }
    let queries = own("SELECT *, true AS done, now() AS at FROM own", &toml);
    let (code, text) = run(&db, &queries, &["once"]).await;
    assert_eq!(code, Some(0), "{text}");
    let metrics = Metrics::parse(&text);
    for name in NAMES {
        let expected = if ["known", "value"].contains(&name) { 3.0 } else { 4.0 };
        assert_eq!(metrics.sum(&format!("of_{name}_total"), &[]), expected, "{name}");
        assert_eq!(metrics.sum(&format!("if_{name}_total"), &[]), expected, "{name}");
        assert_eq!(metrics.sum(&format!("h_{name}_v_bucket"), &[("le", "1")]), expected, "{name}");
    }
    let (code, text) = run(&db, &queries, &["check"]).await;
    assert_eq!(code, Some(0), "{text}");
    for selector in ["of_value_total", "h_bound_v_bucket{le=~\"0|1\",value=\"true\"}", "h_n_v{le=\"1\"}", "h_known_v"] {
        let (code, statement) = run(&db, &queries, &["sql", selector]).await;
        assert_eq!(code, Some(0), "{statement}");
        let answer = psql(&db.url(), &statement).await;
        let number = answer.trim_end().rsplit(['|', '\n']).next();
        assert_eq!(number, Some(if selector.starts_with("h_n_v{") { "4" } else { "3" }), "{selector}\n{answer}");
    }
    for command in
        [&["rows", "of_value_total{n=\"true\"}"][..], &["buckets", "h_value_v"], &["backfill", "--from", "1d"]]
    {
        let (code, text) = run(&db, &queries, command).await;
        assert_eq!(code, Some(0), "{command:?}\n{text}");
    }
}

#[tokio::test]
async fn names_that_differ_only_at_the_end_of_what_postgresql_keeps() {
    let db = Database::new().await;
    let names = [1, 2].map(|i| format!("{}{i}", "a".repeat(62)));
    db.batch(&format!("CREATE TABLE own (id bigserial PRIMARY KEY, \"{}\" text, \"{}\" text)", names[0], names[1]))
        .await;
    db.batch("INSERT INTO own VALUES (1, '3', '4')").await;
    let counter = |i: usize| format!("[[counter]]\nname = \"x{i}_total\"\nhelp = \"X.\"\nsum = \"{}\"\n", names[i]);
    let queries = own("SELECT *, true AS done, now() AS at FROM own", &(counter(0) + &counter(1)));
    let (code, text) = run(&db, &queries, &["once"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("\nx0_total 3\n") && text.contains("\nx1_total 4\n"), "{text}");
    let (code, text) = run(&db, &queries, &["check"]).await;
    assert_eq!(code, Some(0), "{text}");
}

#[tokio::test]
async fn a_source_without_any_label() {
    let db = Database::new().await;
    db.batch("CREATE TABLE own (id bigserial PRIMARY KEY, done boolean, ms int)").await;
    db.batch("INSERT INTO own (done, ms) VALUES (true, 5), (true, 50), (false, NULL)").await;
    let toml = "[[counter]]\nname = \"x_total\"\nhelp = \"X.\"\n\
                [[histogram]]\nname = \"x_ms\"\nhelp = \"X.\"\nvalue = \"ms\"\nbuckets = [10]\n\
                [[gauge]]\nname = \"x_open\"\nhelp = \"X.\"\nof = \"open\"\n";
    let queries = own("SELECT id, done, now() AS at, ms FROM own", toml);
    let (code, text) = run(&db, &queries, &["once", "--series.limit", "1"]).await;
    assert_eq!(code, Some(0), "{text}");
    for line in ["x_total 2", "x_ms_bucket{le=\"10\"} 1", "x_ms_count 2", "x_open 1"] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}\n{text}");
    }
    for (selector, number) in [("x_total", "2"), ("x_open", "1"), ("x_ms", "10|2"), ("x_ms_bucket{le=\"10\"}", "1")] {
        let (code, statement) = run(&db, &queries, &["sql", selector]).await;
        assert_eq!(code, Some(0), "{statement}");
        let answer = psql(&db.url(), &statement).await;
        assert!(answer.trim_end().ends_with(number.trim_start_matches("10|")), "{selector}\n{answer}");
    }
    for command in [&["check"][..], &["rows", "x_total"], &["buckets", "x_ms"], &["backfill", "--from", "1d"], &["sql"]]
    {
        let (code, text) = run(&db, &queries, command).await;
        assert_eq!(code, Some(0), "{command:?}\n{text}");
    }
}
