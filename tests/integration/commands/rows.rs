//! `rows`: the executions behind a series.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::execution::{Mitigation, Validation, before_now};
use crate::support::exporter::{program, run};
use crate::support::metrics::Metrics;
use crate::support::proxy::Proxy;
use crate::support::psql::psql;
use crate::support::rows::{ODD, fill};
use crate::support::state::save_state;

struct Listed {
    rows: Vec<Value>,
    notes: String,
}

async fn list(url: &str, selector: &str, more: &[&str]) -> Listed {
    let fixed = ["rows", selector, "--database.url", url, "--format", "json"];
    let output = run(&[&fixed[..], more].concat()).await;
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{selector}: {notes}");
    Listed { rows: serde_json::from_slice(&output.stdout).expect("JSON"), notes }
}

fn ids(listed: &Listed) -> Vec<i64> {
    listed.rows.iter().map(|row| row["id"].as_i64().expect("an id")).collect()
}

/// The cells of RFC 4180 lines.
fn csv(text: &str) -> Vec<Vec<String>> {
    let (mut lines, mut line, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => cell.extend(characters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => line.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {
                assert_eq!(characters.next(), Some('\n'));
                line.push(std::mem::take(&mut cell));
                lines.push(std::mem::take(&mut line));
            }
            c => cell.push(c),
        }
    }
    lines
}

#[tokio::test]
async fn the_rows_behind_a_series_add_up_to_it() {
    let db = Database::new().await;
    fill(&db).await;
    let url = db.reader().await;
    let once = run(&["once", "--database.url", &url]).await;
    let metrics = Metrics::parse(&String::from_utf8(once.stdout).unwrap());
    let all = ["--limit", "1000"];
    for (selector, name) in [
        ("rsolv_validation_executions_total{status=\"timeout\"}", "rsolv_validation_executions_total"),
        ("rsolv_mitigation_pr_created_total", "rsolv_mitigation_pr_created_total"),
        ("rsolv_validation_test_generated_total", "rsolv_validation_test_generated_total"),
        ("rsolv_validation_tests_reported_total", "rsolv_validation_tests_reported_total"),
        ("rsolv_mitigation_trust_score_value", "rsolv_mitigation_trust_score_value_sum"),
        ("rsolv_mitigation_trust_score_value_bucket{le=\"90\"}", ""),
        ("rsolv_validation_executions_open{status=\"running\"}", "rsolv_validation_executions_open"),
    ] {
        let listed = list(&url, selector, &all).await;
        assert!(ids(&listed).is_sorted_by(|a, b| a > b), "newest first");
        let matchers = selector.split_once('{').map(|(_, rest)| rest.trim_end_matches('}').replace('"', ""));
        let matchers = matchers.filter(|_| !name.is_empty());
        let matcher = matchers.as_deref().and_then(|text| text.split_once('='));
        let exported = match name {
            "" => metrics.sum("rsolv_mitigation_trust_score_value_bucket", &[("le", "90")]),
            name => metrics.sum(name, &matcher.into_iter().collect::<Vec<_>>()),
        };
        let added: f64 = match name {
            "" => listed.rows.len() as f64,
            _ => listed.rows.iter().map(|row| row["value"].as_f64().expect("a number")).sum(),
        };
        assert!(exported > 0.0);
        assert_eq!(added, exported, "{selector}");
    }
    let newest = list(&url, "rsolv_validation_last_execution_timestamp_seconds", &["--limit", "1"]).await;
    let exported = metrics.value("rsolv_validation_last_execution_timestamp_seconds", &[]);
    assert_eq!(newest.rows[0]["value"].as_f64(), exported);
}

#[tokio::test]
async fn le_picks_the_bucket() {
    let db = Database::new().await;
    let url = db.reader().await;
    let repo = db.repository("org/app").await;
    for ms in [1000, 1001, 300_000, 300_001, 900_000] {
        db.insert(Validation::completed(repo, "{}").took(std::time::Duration::from_millis(ms))).await;
    }
    let name = "rsolv_validation_duration_milliseconds";
    for (selector, expected) in [
        (format!("{name}_bucket{{le!=\"300000\"}}"), vec![5, 4]),
        (format!("{name}{{le=\"+Inf\"}}"), vec![5, 4]),
        (format!("{name}_bucket{{le=\"300000.0\"}}"), vec![3, 2, 1]),
        (format!("{name}{{le=\"300000\"}}"), vec![3]),
        (format!("{name}_bucket{{le=\"300000\",le!=\"1000\"}}"), vec![3, 2]),
        (format!("{name}_bucket{{le=~\"1.*\"}}"), vec![2, 1]),
        (format!("{name}_bucket{{le!~\"1.*\"}}"), vec![5, 4, 3]),
        (format!("{name}{{le!~\"[15]000\"}}"), vec![5, 4, 3]),
        (format!("{name}_count"), vec![5, 4, 3, 2, 1]),
        (format!("{name}_bucket{{le!=\"+Inf\"}}"), vec![]),
    ] {
        assert_eq!(ids(&list(&url, &selector, &[]).await), expected, "{selector}");
    }
}

#[tokio::test]
async fn since_and_limit_bound_the_list() {
    let db = Database::new().await;
    let url = db.reader().await;
    let repo = db.repository("org/app").await;
    for hours in [50, 1, 30, 2, 25] {
        let ago = before_now(std::time::Duration::from_secs(hours * 3600));
        db.insert(Validation { completed_at: ago, ..Validation::completed(repo, "{}") }).await;
    }
    db.insert(Validation { completed_at: "'infinity'".into(), ..Validation::completed(repo, "{}") }).await;
    let name = "rsolv_validation_executions_total";
    assert_eq!(ids(&list(&url, name, &["--since", "24h"]).await), [6, 4, 2]);
    let two = list(&url, name, &["--limit", "2"]).await;
    assert_eq!(ids(&two), [6, 5]);
    assert!(two.notes.contains("the newest 2; --limit shows more"), "{}", two.notes);
    assert_eq!(two.rows[0]["at"], "infinity");
    assert_eq!(list(&url, name, &["--limit", "6"]).await.rows.len(), 6);
}

#[tokio::test]
async fn every_format_shows_the_same_rows() {
    let db = Database::new().await;
    let url = db.reader().await;
    let repo = db.repository(ODD).await;
    let data = json!({"language": "a,b\r\n\u{1b}[2J", "framework": "é".repeat(90), "tests_generated": [1, "x"], "testsPassed": "2"});
    let at = "'2026-01-02 03:04:05.678'".to_owned();
    db.insert(Validation { completed_at: at.clone(), started_at: at, ..Validation::completed(repo, &data) }).await;
    let selector = "rsolv_validation_test_passed_total";
    let row = list(&url, selector, &[]).await.rows[0].clone();
    assert_eq!(
        row,
        json!({"id": 1, "at": "2026-01-02T03:04:05.678Z", "value": 2, "repo": ODD, "language": data["language"],
            "framework": data["framework"], "status": "completed", "duration_ms": 0, "tests_generated": [1, "x"],
            "tests_failed": null, "vulnerabilities_found": null, "error": null, "since": "2026-01-02 03:04:05.678+00"})
    );
    let output = run(&["rows", selector, "--database.url", &url, "--format", "csv"]).await;
    let lines = csv(&String::from_utf8(output.stdout).unwrap());
    let cells: BTreeMap<&str, &str> =
        lines[0].iter().map(String::as_str).zip(lines[1].iter().map(String::as_str)).collect();
    assert_eq!((cells["repo"], cells["language"]), (ODD, "a,b\r\n\u{1b}[2J"));
    assert_eq!(cells["tests_generated"], "[1, \"x\"]");
    let output = run(&["rows", selector, "--database.url", &url]).await;
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap());
}

/// `script` gives it a terminal.
#[tokio::test]
async fn a_terminal_is_told_nothing_that_it_would_obey() {
    let db = Database::new().await;
    let url = db.reader().await;
    let repo = db.repository("=cmd|' /C calc'!A0").await;
    db.insert(Validation::completed(repo, json!({"language": "\u{1b}[2J\u{9b}31m"}))).await;
    for (format, expected) in [("csv", "\\u{1b}[2J\\u{9b}31m"), ("json", "\\u001b[2J\\u009b31m"), ("table", "\\u{1b}[")]
    {
        let program = crate::support::exporter::program();
        let selector = "rsolv_validation_executions_total";
        let command = format!("{} rows {selector} --database.url '{url}' --format {format}", program.display());
        let output = Command::new("script").args(["-qec", &command, "/dev/null"]).output().expect("script");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && said.contains(expected), "{format}: {said}");
        assert!(!said.contains(['\u{1b}', '\u{9b}']), "{format}: {said}");
        assert_eq!(said.contains("'=cmd|"), format == "csv", "{format}: {said}");
    }
}

/// What a command prints on a terminal of so many columns.
async fn on_terminal(columns: u16, arguments: &[&str]) -> String {
    let program = program().to_string_lossy().into_owned();
    let words = std::iter::once(program.as_str()).chain(arguments.iter().copied());
    let quoted = words.map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let mut command = tokio::process::Command::new("script");
    command
        .args(["-qefc", &format!("stty cols {columns} rows 24; {quoted}"), "/dev/null"])
        .stdin(std::process::Stdio::null());
    let output = command.output().await.expect("script can be run");
    String::from_utf8(output.stdout).expect("UTF-8").replace('\r', "")
}

#[tokio::test]
async fn a_table_is_as_wide_as_the_terminal_and_nothing_is_cut_in_a_pipe() {
    let db = Database::new().await;
    let url = db.reader().await;
    let name = format!("org/{}", "long".repeat(30));
    let repo = db.repository(&name).await;
    let took = Duration::from_micros(1_234_500);
    db.insert(Validation::completed(repo, json!({"language": " ruby\n", "tests_generated": 3})).took(took)).await;
    let arguments = ["rows", "rsolv_validation_executions_total", "--database.url", &url];
    let piped = String::from_utf8(run(&arguments).await.stdout).unwrap();
    assert!(piped.contains(&name) && piped.contains(" 1234.5 ") && !piped.contains('…'), "{piped}");
    // Labels are as they are exported, and a column that is 1 in every row is none.
    let head: Vec<&str> = piped.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head[..7], ["id", "at", "repo", "language", "framework", "status", "error"]);
    assert!(piped.contains(" ruby      none "), "{piped}");
    for columns in [80, 132] {
        let shown = on_terminal(columns, &arguments).await;
        let widest = shown.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= usize::from(columns) && widest > usize::from(columns) - 20, "{columns}: {shown}");
        assert!(shown.contains('…'), "{shown}");
    }
    let measured = on_terminal(200, &["rows", "rsolv_validation_duration_milliseconds", "--database.url", &url]).await;
    assert!(measured.contains(" value ") && measured.contains(" 1234.5 "), "{measured}");
}

#[tokio::test]
async fn rejected_values_are_listed_with_the_reason() {
    let db = Database::new().await;
    fill(&db).await;
    let url = db.reader().await;
    let once = run(&["once", "--database.url", &url]).await;
    let metrics = Metrics::parse(&String::from_utf8(once.stdout).unwrap());
    let name = "rsolv_exporter_rejected_values_total";
    let all = ["--limit", "1000"];
    for (selector, labels) in [
        ("", vec![]),
        ("{source=\"mitigation_executions\"}", vec![("source", "mitigation_executions")]),
        ("{column=\"trust_score\",job=\"x\"}", vec![("column", "trust_score")]),
        ("{source=~\"v.*\",column=\"tests_generated\"}", vec![("column", "tests_generated")]),
    ] {
        let listed = list(&url, &format!("{name}{selector}"), &all).await;
        assert!(!listed.rows.is_empty() && listed.rows.len() as f64 == metrics.sum(name, &labels), "{selector}");
    }
    let listed = list(&url, &format!("{name}{{column=\"trust_score\"}}"), &all).await;
    let high = listed.rows.iter().find(|row| row["value"] == "250").expect("a score of 250");
    assert_eq!((&high["reason"], &high["framework"]), (&json!("is above 100"), &json!("rails")));
    assert!(ids(&listed).is_sorted_by(|a, b| a > b));
    for (selector, expected) in [
        ("{column=\"score\"}", "no such series; there are\n  rsolv_exporter_rejected_values_total{source="),
        ("{planet=\"x\"}", "has no label \"planet\"; its labels: source, column"),
        ("{column=~\"(\"}", "this is no regular expression to PostgreSQL"),
    ] {
        let output = run(&["rows", &format!("{name}{selector}"), "--database.url", &url]).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(expected), "{selector}: {said}");
    }
    let output = run(&["sql", name, "--database.url", &url]).await;
    assert!(String::from_utf8_lossy(&output.stderr).contains("is for the command rows"));
}

#[tokio::test]
async fn without_a_selector_every_metric_is_listed_and_no_database_is_needed() {
    let output = run(&["rows"]).await;
    assert!(output.status.success());
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap());
}

#[tokio::test]
async fn no_rows_names_the_label_values_that_there_are() {
    let db = Database::new().await;
    let url = db.reader().await;
    let name = "rsolv_validation_executions_total";
    let empty = list(&url, &format!("{name}{{status=\"failed\"}}"), &[]).await;
    assert_eq!(empty.notes, "there are no rows at all yet that this metric is about\n");
    for name in ["org/app", "org/other", "RSOLV-dev/demo"] {
        let repo = db.repository(name).await;
        db.insert(Validation::completed(repo, json!({"language": " go "}))).await;
        db.insert(Validation::open(repo, "running", json!({"language": "zig"}))).await;
    }
    for (selector, expected) in [
        ("{repo=\"org/ap\"}", "repo is \"org/app\", \"org/other\", \"RSOLV-dev/demo\" in the newest 10000 rows\n"),
        (
            "{language=\"Go\",status=~\"f.*\"}",
            "language is \"go\" in the newest 10000 rows\nstatus is \"completed\" in the newest 10000 rows\n",
        ),
        ("{status!=\"completed\"}", "status is \"completed\" in the newest 10000 rows\n"),
    ] {
        let listed = list(&url, &format!("{name}{selector}"), &[]).await;
        assert_eq!((listed.rows.len(), listed.notes.as_str()), (0, expected), "{selector}");
    }
    let found = list(&url, name, &[]).await;
    assert_eq!((found.rows.len(), found.notes.as_str()), (3, ""));
}

#[tokio::test]
async fn a_failed_execution_says_why_it_failed() {
    let db = Database::new().await;
    let url = db.reader().await;
    let repo = db.repository("org/app").await;
    let why = Some("tests do not compile".to_owned());
    db.insert(Validation { status: "failed", error_message: why, ..Validation::completed(repo, "{}") }).await;
    let listed = list(&url, "rsolv_validation_executions_total{status=\"failed\"}", &["--since", "1h"]).await;
    assert_eq!(listed.rows[0]["error"], "tests do not compile");
}

#[tokio::test]
async fn a_search_that_takes_too_long_says_how_far_it_came() {
    let db = Database::new().await;
    let url = db.reader().await;
    let repo = db.repository("org/app").await;
    db.insert(Validation { status: "failed", ..Validation::completed(repo, "{}") }).await;
    db.batch(&format!(
        "INSERT INTO validation_executions (repository_id, issue_number, commit_sha, status, data, started_at,
           completed_at, inserted_at, updated_at)
         SELECT {repo}, 1, 'c', 'completed', '{{\"language\": \"go\"}}', t, t - interval '2 days', t, t
         FROM generate_series(1, 400000), timezone('UTC', now()) AS t"
    ))
    .await;
    let failed = "rsolv_validation_executions_total{status=\"failed\"}";
    let listed = list(&url, failed, &["--database.statement-timeout", "300ms"]).await;
    assert_eq!(listed.rows.len(), 0);
    assert!(listed.notes.contains("gave up after database.statement_timeout: read the newest"), "{}", listed.notes);
    assert_eq!(ids(&list(&url, failed, &[]).await), [1], "given time, it is found");
    let listed = list(&url, failed, &["--since", "1d"]).await;
    assert!(listed.notes.contains("10000 rows in a row are older than --since"), "{}", listed.notes);
}

#[tokio::test]
async fn counted_rows_that_are_gone_are_mentioned() {
    let db = Database::new().await;
    fill(&db).await;
    let url = db.reader().await;
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    save_state(&url, &state, &[]).await;
    let state = ["--state.file", state.to_str().unwrap()];
    let ask = async |selector: &str| {
        let sql = run(&[&["sql", selector, "--database.url", &url][..], &state].concat()).await;
        let listed = list(&url, selector, &[&["--limit", "1000"][..], &state].concat()).await;
        (String::from_utf8(sql.stdout).unwrap(), listed.notes)
    };
    let all = [
        ("rsolv_validation_executions_total{repo=~\"org/.*\"}", "3 of it"),
        ("rsolv_validation_test_failed_total", "3 of it"),
        ("rsolv_validation_duration_milliseconds", "3 of it"),
        ("rsolv_validation_duration_milliseconds_bucket{le=\"+Inf\"}", "3 of it"),
        ("rsolv_validation_duration_milliseconds{le=\"1000\"}", "1 of it"),
    ];
    for (selector, _) in all {
        let (sql, notes) = ask(selector).await;
        assert!(sql.contains("no row that was counted is gone") && notes.is_empty(), "{sql}\n{notes}");
    }
    // One that took less than a second and two that took longer, a row that was not counted, and one that was open.
    db.batch("DELETE FROM validation_executions WHERE id IN (2, 8, 9)").await;
    let repo = db.repository("org/app").await;
    db.insert(Validation::completed(repo, json!({"tests_failed": 5}))).await;
    let open = "(SELECT min(id) FROM validation_executions WHERE status = 'running')";
    db.batch(&format!("UPDATE validation_executions SET status = 'completed' WHERE id = {open}")).await;
    for (selector, expected) in all {
        let (sql, notes) = ask(selector).await;
        assert!(sql.contains(expected), "{sql}");
        assert!(notes.contains("deleted or changed after they were counted"), "{notes}");
    }
    let other = Database::new().await;
    let sql = run(&[&["sql", all[0].0, "--database.url", &other.reader().await][..], &state].concat()).await;
    assert!(String::from_utf8_lossy(&sql.stderr).contains("the state is of another database"), "{sql:?}");
}

#[tokio::test]
async fn rows_counted_under_overflow_are_told_by_the_state() {
    let db = Database::new().await;
    fill(&db).await;
    let url = db.reader().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    save_state(&url, &path, &[("series.limit", "4")]).await;
    let more = ["--state.file", path.to_str().unwrap(), "--series.limit", "4"];
    let state = rsolv_exporter::state::load(&path).unwrap();
    let folded = state.sources["validation_executions"].ledger.overflowed();
    assert!(folded > 10);
    let selector = "rsolv_validation_executions_total{repo=\"__overflow__\"}";
    let listed = list(&url, selector, &[&["--limit", "1000"][..], &more].concat()).await;
    assert_eq!((listed.rows.len() as u64, listed.notes.as_str()), (folded, ""));
    let sql = run(&[&["sql", selector, "--database.url", &url][..], &more].concat()).await;
    let output = psql(&url, &String::from_utf8(sql.stdout).unwrap()).await;
    let last = output.trim_end().rsplit(['|', '\n']).next().map(str::to_owned);
    assert_eq!(last, Some(folded.to_string()), "{output}");
}

#[tokio::test]
async fn a_raised_limit_is_named_where_rows_were_counted_under_overflow() {
    let db = Database::new().await;
    let url = db.reader().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    for (name, rows, limit) in [("org/first", 1, "1"), ("org/folded", 4, "1"), ("org/folded", 1, "10")] {
        let repo = db.repository(name).await;
        for _ in 0..rows {
            db.insert(Validation::completed(repo, "{}")).await;
        }
        save_state(&url, &path, &[("series.limit", limit)]).await;
    }
    let state = ["--state.file", path.to_str().unwrap()];
    for (repo, said) in [
        ("org/folded", "4 more, from rows that were counted under __overflow__ before series.limit was raised"),
        ("__overflow__", "4 of it is from rows that were deleted or changed after they were counted, or whose labels"),
        ("org/first", "no row that was counted is gone"),
    ] {
        let selector = format!("rsolv_validation_executions_total{{repo=\"{repo}\"}}");
        let sql = run(&[&["sql", &selector, "--database.url", &url][..], &state].concat()).await;
        let sql = String::from_utf8(sql.stdout).unwrap();
        assert!(sql.contains(said), "{repo}: {sql}");
    }
}

#[tokio::test]
async fn an_invalid_regular_expression_is_named_before_rows_are_searched() {
    let db = Database::new().await;
    let url = db.reader().await;
    // There is no row to match, nor a table to search.
    db.batch("DROP TABLE validation_executions").await;
    for (name, matcher) in [
        ("rsolv_validation_executions_total", "repo=~\"(\""),
        ("rsolv_validation_executions_total", "repo!~\"a)|(b\""),
        ("rsolv_validation_executions_total", "status=~\"a(?i)b\""),
        ("rsolv_validation_duration_milliseconds_bucket", "le=~\"[1\""),
    ] {
        for command in ["rows", "sql"] {
            let output = run(&[command, &format!("{name}{{{matcher}}}"), "--database.url", &url]).await;
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{command} {matcher}: {said}");
            let expected = format!("{matcher}: this is no regular expression to PostgreSQL: ");
            assert!(said.contains(&expected), "{command} {matcher}: {said}");
        }
    }
}

#[tokio::test]
async fn the_runbooks_list_the_rows_that_they_speak_of() {
    let db = Database::new().await;
    let url = db.reader().await;
    let repo = db.repository("org/a").await;
    for seconds in [30, 90, 400] {
        db.insert(Validation::completed(repo, "{}").took(Duration::from_secs(seconds))).await;
    }
    for score in [50, 65, 85] {
        db.insert(Mitigation::completed(repo, json!({"trust_score": score}))).await;
    }
    for (runbook, expected) in [
        (include_str!("../../../alerts/runbooks/ValidationDurationHigh.md"), 400_000.0),
        (include_str!("../../../alerts/runbooks/ValidationDurationIncreasing.md"), 90_000.0),
        (include_str!("../../../alerts/runbooks/MitigationTrustScoreLow.md"), 50.0),
        (include_str!("../../../alerts/runbooks/MitigationTrustScoreDecreasing.md"), 65.0),
    ] {
        let (_, command) = runbook.split_once("rsolv-exporter rows '").expect("a command");
        let (selector, _) = command.split_once('\'').expect("the end of the selector");
        let listed = list(&url, selector, &["--since", "48h"]).await;
        let values: Vec<f64> = listed.rows.iter().filter_map(|row| row["value"].as_f64()).collect();
        assert!(values.len() == 1 && (values[0] - expected).abs() < 1.0, "{selector}: {:?}", listed.rows);
    }
}

#[tokio::test]
async fn a_regular_expression_costs_no_second_connection() {
    let db = Database::new().await;
    fill(&db).await;
    let proxy = Proxy::to(db.cluster().port());
    let url = format!("postgres://postgres@127.0.0.1:{}/{}", proxy.port(), db.name);
    let found = list(&url, "rsolv_validation_executions_total{status=~\"comp.*\"}", &[]).await;
    assert!(!found.rows.is_empty(), "{}", found.notes);
    assert_eq!(proxy.connections().accepted, 1);
}
