//! Arbitrary JSON in every key and arbitrary text in every label: polls succeed and every number is exact.

mod model;
mod number;

use std::io::Write;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::support::database::Database;
use crate::support::execution::{NOW, literal};
use crate::support::exporter;
use crate::support::metrics::Metrics;
use crate::support::truth::{Table, Truth};
use model::{Execution, Json, TIMES};

/// So many statements with this many rows each are tried; `PROPTEST_CASES` sets another number.
const CASES: u32 = 40;
const ROWS: usize = 50;

/// Text with everything that could break an exposition, a query or a terminal.
fn text() -> impl Strategy<Value = String> {
    // jsonb and text hold every character but NUL.
    let any = "[^\\x00]{0,12}".prop_map(|text| text.replace('\0', ""));
    let nasty = prop::sample::select(vec!["\"", "\\", "\n", "\r\n", "\u{1}", "\u{7f}", "🦀", "{le=\"1\"}", " ", "é"]);
    let pieces = prop::collection::vec(nasty, 1..5).prop_map(|pieces| pieces.concat());
    let known = prop::sample::select(vec!["ruby", "unknown", "none", "", " ruby ", "vue", "__overflow__"]);
    let long = ("[a-zé🦀]", 60_usize..2600).prop_map(|(piece, times)| piece.repeat(times));
    prop_oneof![3 => any, 3 => pieces, 3 => known.prop_map(str::to_owned), 1 => long]
}

/// Numbers of every size, as JSON writes them.
fn number() -> impl Strategy<Value = String> {
    let plain = (-3_i64..120).prop_map(|number| number.to_string());
    let exponent = prop_oneof![Just(None), (-420_i32..420).prop_map(Some), (-9000_i32..9000).prop_map(Some)];
    let odd = ("-?(0|[1-9][0-9]{0,11})(\\.[0-9]{1,25})?", exponent).prop_map(|(digits, exponent)| match exponent {
        Some(exponent) => format!("{digits}e{exponent:+}"),
        None => digits,
    });
    let edges = ["100", "1e2", "100.0000000000000000000001", "1000000000", "1000000001", "999999999.5", "-0", "0e0"];
    prop_oneof![3 => plain, 2 => odd, 1 => prop::sample::select(edges.to_vec()).prop_map(str::to_owned)]
}

fn json() -> impl Strategy<Value = Json> {
    let padded = ("[ \t\n]{0,2}", number(), "[ \r]{0,2}").prop_map(|(before, number, after)| before + &number + &after);
    let leaf = prop_oneof![
        1 => Just(Json::Null),
        1 => any::<bool>().prop_map(Json::Bool),
        4 => number().prop_map(Json::Number),
        3 => padded.prop_map(Json::String),
        3 => text().prop_map(Json::String),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        let array = prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array);
        let object =
            prop::collection::btree_map(text(), inner, 0..3).prop_map(|map| Json::Object(map.into_iter().collect()));
        prop_oneof![array, object]
    })
}

fn data() -> impl Strategy<Value = Json> {
    let key = prop::sample::select(model::KEYS.to_vec());
    let object = prop::collection::btree_map(key, json(), 0..8);
    let object = object.prop_map(|map| Json::Object(map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()));
    prop_oneof![9 => object, 1 => json()]
}

fn execution() -> impl Strategy<Value = Execution> {
    let table = prop_oneof![Just(Table::Validation), Just(Table::Mitigation)];
    let status = prop::sample::select(vec!["pending", "running", "completed", "completed", "failed", "failed"]);
    let errors = vec![None, Some("oom"), Some("TimeD  out"), Some("x timed-out\n"), Some("Timeout")];
    let time = || prop::sample::select((0..TIMES.len()).collect::<Vec<_>>());
    let column = prop_oneof![3 => Just(None), 1 => any::<i32>().prop_map(Some), 1 => (0..9).prop_map(Some)];
    let url = prop_oneof![3 => Just(None), 1 => text().prop_map(|text| Some(text.chars().take(200).collect()))];
    let repo = text().prop_map(|text| text.chars().take(250).collect());
    let columns = (column, url, prop::sample::select(errors), time(), time());
    (table, repo, status, data(), columns).prop_map(|(table, repo, status, data, columns)| {
        let (number, pr_url, error, started, completed) = columns;
        Execution { table, repo, status, data, number, pr_url, error, started, completed }
    })
}

/// One statement that inserts all of them, in place of those of the case before.
fn insert(rows: &[Execution]) -> String {
    let mut sql = "TRUNCATE repositories, validation_executions, mitigation_executions;\n".to_owned();
    for (i, row) in rows.iter().enumerate() {
        let [started, completed] = [row.started, row.completed].map(|i| TIMES[i].0);
        let number = row.number.map_or("NULL".into(), |number| number.to_string());
        let columns = match row.table {
            Table::Validation => ("vulnerabilities_found", number),
            Table::Mitigation => {
                let url = row.pr_url.as_deref().map_or("NULL".into(), literal);
                ("pr_number, pr_url", format!("{number}, {url}"))
            }
        };
        sql += &format!(
            "INSERT INTO repositories (id, forge_type, namespace, name, full_path,
               first_seen_at, last_activity_at, inserted_at, updated_at)
             VALUES ({i}, 'github', 'n', '{i}', {}, {NOW}, {NOW}, {NOW}, {NOW});
             INSERT INTO {} (repository_id, issue_number, commit_sha, inserted_at, updated_at,
               status, data, error_message, started_at, completed_at, {})
             VALUES ({i}, 1, 'c0ffee', {NOW}, {NOW}, '{}', {}::jsonb, {}, {started}, {completed}, {});\n",
            literal(&row.repo),
            row.table.name(),
            columns.0,
            row.status,
            literal(&row.data.to_string()),
            row.error.map_or("NULL".into(), literal),
            columns.1,
        );
    }
    sql
}

async fn try_rows(db: &Database<'_>, rows: &[Execution]) -> Result<(), TestCaseError> {
    db.batch(&insert(rows)).await;
    let mut truth = Truth::default();
    rows.iter().filter_map(Execution::counted).for_each(|row| truth.count(&row));
    let output = exporter::run(&["once", "--database.url", &db.url()]).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    prop_assert!(output.status.success(), "{errors}");
    let exposition = String::from_utf8(output.stdout).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let differences = truth.differences(&Metrics::parse(&exposition));
    prop_assert!(differences.is_empty(), "{differences:#?}");
    prop_assert_eq!(promtool(&exposition), "");
    Ok(())
}

/// What Prometheus' own parser objects to; its advice on names is for another test.
fn promtool(exposition: &str) -> String {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool (tests/setup.sh prometheus installs it)");
    child.stdin.take().expect("a pipe").write_all(exposition.as_bytes()).expect("promtool reads all");
    let output = child.wait_with_output().expect("promtool ends");
    let advice_only = output.status.success() || output.status.code() == Some(3);
    if advice_only { String::new() } else { String::from_utf8_lossy(&output.stderr).into_owned() }
}

#[test]
fn arbitrary_data_and_labels_are_counted_exactly() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let db = runtime.block_on(Database::new());
    // Each step that makes a failure smaller is a run of the exporter.
    let cases = std::env::var("PROPTEST_CASES").map_or(CASES, |text| text.parse().expect("PROPTEST_CASES is a number"));
    let config = Config { cases, max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
    let rows = prop::collection::vec(execution(), ROWS);
    let outcome = TestRunner::new(config).run(&rows, |rows| runtime.block_on(try_rows(&db, &rows)));
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
