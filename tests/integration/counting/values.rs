//! Every rule on the values of `data` and of the columns beside it, case by case.
//!
//! A case's row belongs to a repository with the case as its name, so that a wrong series names the case.

use crate::support::database::Database;
use crate::support::execution::{Mitigation, Validation};
use crate::support::exporter;
use crate::support::metrics::Metrics;
use crate::support::truth::{Counted, Table, Truth};

/// What becomes of a value.
#[derive(Clone, Copy)]
enum Value {
    Is(f64),
    Missing,
    Rejected,
}
use Value::{Is, Missing, Rejected};

impl Value {
    /// Notes a rejection in `counted`, returns the number if there is one.
    fn of(self, column: &'static str, counted: &mut Counted) -> Option<f64> {
        match self {
            Is(number) => Some(number),
            Missing => None,
            Rejected => {
                counted.rejected.push(column);
                None
            }
        }
    }
}

/// Rows with the way they have to be counted.
struct Cases {
    db: Database<'static>,
    truth: Truth,
}

impl Cases {
    async fn new() -> Self {
        Self { db: Database::new().await, truth: Truth::default() }
    }

    async fn mitigation(
        &mut self,
        case: &str,
        edit: impl FnOnce(Mitigation) -> Mitigation,
        expect: impl FnOnce(&mut Counted),
    ) {
        let row = edit(Mitigation::completed(self.db.repository(case).await, "{}"));
        let moment = Mitigation { started_at: row.completed_at.clone(), ..row };
        self.db.insert(moment).await;
        self.expect(Table::Mitigation, case, expect);
    }

    async fn validation(
        &mut self,
        case: &str,
        edit: impl FnOnce(Validation) -> Validation,
        expect: impl FnOnce(&mut Counted),
    ) {
        let row = Validation::completed(self.db.repository(case).await, "{}");
        self.db.insert(edit(Validation { started_at: row.completed_at.clone(), ..row })).await;
        self.expect(Table::Validation, case, expect);
    }

    /// Everything took no time, unless the case says otherwise.
    fn expect(&mut self, table: Table, case: &str, expect: impl FnOnce(&mut Counted)) {
        let mut counted = Counted { duration_ms: Some(0.0), ..Counted::new(table, [case, "unknown", "none"]) };
        expect(&mut counted);
        self.truth.count(&counted);
    }

    /// Reads everything with `once` and compares.
    async fn check(&self) -> Metrics {
        let metrics = once(&self.db).await;
        let differences = self.truth.differences(&metrics);
        assert!(differences.is_empty(), "{differences:#?}");
        metrics
    }
}

async fn once(db: &Database<'_>) -> Metrics {
    let output = exporter::run(&["once", "--database.url", &db.url()]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Metrics::parse(&String::from_utf8_lossy(&output.stdout))
}

#[tokio::test]
async fn trust_scores() {
    let mut cases = Cases::new().await;
    for (data, value) in [
        (r#"{"trust_score": 85}"#, Is(85.0)),
        (r#"{"trust_score": 90}"#, Is(90.0)),
        (r#"{"trust_score": 0}"#, Is(0.0)),
        (r#"{"trust_score": -0.0}"#, Is(0.0)),
        (r#"{"trust_score": 100}"#, Is(100.0)),
        (r#"{"trust_score": 87.25}"#, Is(87.25)),
        (r#"{"trust_score": 1e1}"#, Is(10.0)),
        (r#"{"trust_score": 1e-400}"#, Is(0.0)),
        (r#"{"trustScore": 85}"#, Is(85.0)),
        (r#"{"trust_score": null, "trustScore": 86}"#, Is(86.0)),
        (r#"{"trust_score": 85, "trustScore": 86}"#, Is(85.0)),
        (r#"{"trust_score": 85, "trustScore": "high"}"#, Is(85.0)),
        (r#"{"trust_score": "", "trustScore": 86}"#, Missing),
        (r#"{"trust_score": "high", "trustScore": 86}"#, Rejected),
        (r#"{}"#, Missing),
        (r#"[]"#, Missing),
        (r#""trust_score""#, Missing),
        (r#"{"trust_score": null}"#, Missing),
        (r#"{"trust_score": null, "trustScore": null}"#, Missing),
        (r#"{"trust_score": ""}"#, Missing),
        (r#"{"trust_score": "85"}"#, Is(85.0)),
        (r#"{"trust_score": " 85.5\t\n"}"#, Is(85.5)),
        (r#"{"trust_score": "8.5E+1"}"#, Is(85.0)),
        (r#"{"trust_score": "1e-9999"}"#, Is(0.0)),
        (r#"{"trust_score": "100.0000000000000000000000000000000000001"}"#, Rejected),
        (r#"{"trust_score": 100.0000000000000000000000000000000000001}"#, Rejected),
        (r#"{"trust_score": " "}"#, Rejected),
        (r#"{"trust_score": "high"}"#, Rejected),
        (r#"{"trust_score": "85%"}"#, Rejected),
        (r#"{"trust_score": "8 5"}"#, Rejected),
        (r#"{"trust_score": "+85"}"#, Rejected),
        (r#"{"trust_score": "085"}"#, Rejected),
        (r#"{"trust_score": ".5"}"#, Rejected),
        (r#"{"trust_score": "0x10"}"#, Rejected),
        (r#"{"trust_score": "v85"}"#, Rejected),
        (r#"{"trust_score": "NaN"}"#, Rejected),
        (r#"{"trust_score": "Infinity"}"#, Rejected),
        (r#"{"trust_score": "1e400"}"#, Rejected),
        (r#"{"trust_score": "1e999999999"}"#, Rejected),
        (r#"{"trust_score": 1e400}"#, Rejected),
        (r#"{"trust_score": -1e400}"#, Rejected),
        (r#"{"trust_score": -3}"#, Rejected),
        (r#"{"trust_score": 250}"#, Rejected),
        (r#"{"trust_score": [85]}"#, Rejected),
        (r#"{"trust_score": {"value": 85}}"#, Rejected),
        (r#"{"trust_score": true}"#, Rejected),
        (r#"{"trust_score": [[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]}"#, Rejected),
    ] {
        let edit = |row| Mitigation { data: data.into(), ..row };
        cases.mitigation(data, edit, |counted| counted.trust_score = value.of("trust_score", counted)).await;
    }
    // Longer than any number that means something, and too long for PostgreSQL's own.
    for (case, digits) in [("long/string", "1".repeat(200_000)), ("long/spaces", format!("{}85", " ".repeat(5000)))] {
        let data = format!("{{\"trust_score\": \"{digits}\"}}");
        let value = if case == "long/spaces" { Is(85.0) } else { Rejected };
        let edit = |row| Mitigation { data, ..row };
        cases.mitigation(case, edit, |counted| counted.trust_score = value.of("trust_score", counted)).await;
    }
    cases.check().await;
}

#[tokio::test]
async fn counts_are_whole_numbers() {
    let mut cases = Cases::new().await;
    for (json, value) in [
        ("5", Is(5.0)),
        ("5.0", Is(5.0)),
        ("\"5.0\"", Is(5.0)),
        ("5e0", Is(5.0)),
        ("0", Is(0.0)),
        ("1000000000", Is(1e9)),
        ("1e9", Is(1e9)),
        ("\" 7 \"", Is(7.0)),
        ("null", Missing),
        ("\"\"", Missing),
        ("5.5", Rejected),
        ("\"5.5\"", Rejected),
        ("1e-400", Rejected),
        ("1000000001", Rejected),
        ("1000000000.000000000000000000000000000000000000001", Rejected),
        ("-1", Rejected),
        ("1e400", Rejected),
        ("false", Rejected),
        ("[5]", Rejected),
        ("\"five\"", Rejected),
    ] {
        let spellings =
            [["tests_generated", "testsGenerated"], ["tests_passed", "testsPassed"], ["tests_failed", "testsFailed"]];
        for (i, [snake, camel]) in spellings.into_iter().enumerate() {
            for key in [snake, camel] {
                let data = format!("{{\"{key}\": {json}}}");
                let edit = |row| Validation { data: data.clone(), ..row };
                cases.validation(&data, edit, |counted| counted.sums[i] = value.of(snake, counted)).await;
            }
        }
    }
    cases.check().await;
}

#[tokio::test]
async fn vulnerabilities_are_the_column_else_the_array() {
    let mut cases = Cases::new().await;
    for (column, data, value) in [
        (Some(3), r#"{}"#, Is(3.0)),
        (Some(3), r#"{"vulnerabilities": [1]}"#, Is(3.0)),
        (Some(0), r#"{"vulnerabilities": [1]}"#, Is(0.0)),
        (Some(-3), r#"{"vulnerabilities": [1]}"#, Rejected),
        (Some(i32::MAX), r#"{}"#, Rejected),
        (None, r#"{"vulnerabilities": [1, {"a": []}, null]}"#, Is(3.0)),
        (None, r#"{"vulnerabilities": []}"#, Is(0.0)),
        (None, r#"{"vulnerabilities": null}"#, Missing),
        (None, r#"{"vulnerabilities": ""}"#, Missing),
        (None, r#"{}"#, Missing),
        (None, r#"[1, 2]"#, Missing),
        (None, r#"{"vulnerabilities": 3}"#, Rejected),
        (None, r#"{"vulnerabilities": "3"}"#, Rejected),
        (None, r#"{"vulnerabilities": {"a": 1}}"#, Rejected),
        (None, r#"{"vulnerabilities": false}"#, Rejected),
    ] {
        let case = format!("{column:?} {data}");
        let edit = |row| Validation { vulnerabilities_found: column, data: data.into(), ..row };
        cases.validation(&case, edit, |counted| counted.sums[3] = value.of("vulnerabilities_found", counted)).await;
    }
    cases.check().await;
}

#[tokio::test]
async fn pull_requests() {
    let mut cases = Cases::new().await;
    for (url, number, data, created) in [
        (Some("https://example.org/pull/1"), None, r#"{}"#, true),
        (None, Some(42), r#"{}"#, true),
        (None, Some(0), r#"{}"#, true),
        (Some(""), None, r#"{}"#, false),
        (None, None, r#"{}"#, false),
        (None, None, r#"{"pr_url": "https://example.org/pull/1"}"#, true),
        (None, None, r#"{"prUrl": "https://example.org/pull/1"}"#, true),
        (None, None, r#"{"pr_url": null, "prUrl": "https://example.org/pull/1"}"#, true),
        (Some(""), None, r#"{"prUrl": "https://example.org/pull/1"}"#, true),
        (None, None, r#"{"pr_url": ""}"#, false),
        (None, None, r#"{"pr_url": null}"#, false),
        (None, None, r#"{"pr_number": 42}"#, true),
        (None, None, r#"{"prNumber": 42}"#, true),
        (None, None, r#"{"prNumber": "42"}"#, true),
        (None, None, r#"{"pr_number": null}"#, false),
        (None, None, r#"{"prNumber": ""}"#, false),
        (None, None, r#"[]"#, false),
        (None, None, r#"{"fixed": true, "prUrl": "https://example.org/pull/100", "fixCommit": "c0ffee"}"#, true),
    ] {
        let case = format!("{url:?} {number:?} {data}");
        let edit = |row| Mitigation { pr_url: url.map(str::to_owned), pr_number: number, data: data.into(), ..row };
        cases.mitigation(&case, edit, |counted| counted.pr_created = created).await;
    }
    cases.check().await;
}

#[tokio::test]
async fn labels() {
    let mut cases = Cases::new().await;
    for (data, language, framework) in [
        (r#"{"language": "ruby", "framework": "rails"}"#, "ruby", "rails"),
        (r#"{"language": " ruby\t", "framework": "\r\nrails "}"#, "ruby", "rails"),
        // Letters at either end are none of the white space.
        (r#"{"language": "vtnrf", "framework": "vue"}"#, "vtnrf", "vue"),
        (r#"{"language": "\u000bruby\u000c", "framework": "rails"}"#, "ruby", "rails"),
        (r#"{"language": "", "framework": " \n "}"#, "unknown", "none"),
        (r#"{"language": null, "framework": null}"#, "unknown", "none"),
        (r#"{"language": 5, "framework": ["rails"]}"#, "unknown", "none"),
        (r#"{"language": {"a": 1}, "framework": true}"#, "unknown", "none"),
        (r#"{}"#, "unknown", "none"),
        (r#"null"#, "unknown", "none"),
        (r#"[{"language": "ruby"}]"#, "unknown", "none"),
        (r#"{"language": "\"\\\n", "framework": "\u0001é🦀"}"#, "\"\\", "\u{1}é🦀"),
        (r#"{"language": "a\nb\\nc\"", "framework": "none"}"#, "a\nb\\nc\"", "none"),
        (r#"{"validated": true, "branchName": "rsolv/validate/42", "testPath": "…"}"#, "unknown", "none"),
    ] {
        let edit = |row| Validation { data: data.into(), ..row };
        let expect = |counted: &mut Counted| {
            counted.labels[1] = language.into();
            counted.labels[2] = framework.into();
        };
        cases.validation(data, edit, expect).await;
    }
    for (path, label) in [("  spaced/out\t", "spaced/out"), ("", "unknown"), (" ", "unknown"), ("vue/v", "vue/v")] {
        cases.validation(path, |row| row, |counted| counted.labels[0] = label.into()).await;
    }
    let long = "é".repeat(101);
    let data = serde_json::json!({ "language": format!("{long}1"), "framework": format!("{long}2") }).to_string();
    let expect = |counted: &mut Counted| {
        counted.labels[1] = "é".repeat(100);
        counted.labels[2] = "é".repeat(100);
    };
    cases.validation("long/labels", |row| Validation { data, ..row }, expect).await;
    cases.check().await;
}

#[tokio::test]
async fn statuses() {
    let mut cases = Cases::new().await;
    cases.db.batch("ALTER TYPE execution_status ADD VALUE 'cancelled'").await;
    cases.db.batch("ALTER TYPE execution_status ADD VALUE 'timeout'").await;
    for (status, data, error, label) in [
        ("completed", r#"{}"#, None, "completed"),
        ("completed", r#"{"status": "timeout"}"#, Some("timed out"), "completed"),
        ("failed", r#"{}"#, None, "failed"),
        ("failed", r#"{"status": "failed"}"#, Some("out of memory"), "failed"),
        ("failed", r#"{"status": "timeout"}"#, None, "timeout"),
        ("failed", r#"{}"#, Some("Request TIMED OUT after 30 s"), "timeout"),
        ("failed", r#"{}"#, Some("timeout"), "timeout"),
        ("failed", r#"{}"#, Some("a time-out"), "timeout"),
        ("failed", r#"{}"#, Some("Time out!"), "timeout"),
        ("failed", r#"{}"#, Some("timed-out"), "timeout"),
        ("failed", r#"{}"#, Some("times out"), "failed"),
        ("failed", r#"{}"#, Some("time is out"), "failed"),
        ("failed", r#"{"status": ["timeout"]}"#, Some(""), "failed"),
        ("cancelled", r#"{}"#, Some("timed out"), "cancelled"),
        ("timeout", r#"{}"#, None, "timeout"),
    ] {
        let case = format!("{status} {data} {error:?}");
        let edit = |row| Validation { status, data: data.into(), error_message: error.map(str::to_owned), ..row };
        cases.validation(&case, edit, |counted| counted.status = label.into()).await;
    }
    for status in ["pending", "running", "running"] {
        let repo = cases.db.repository("open").await;
        cases.db.insert(Validation::open(repo, status, "{}")).await;
    }
    let metrics = cases.check().await;
    let open = |status| metrics.value("rsolv_validation_executions_open", &[("status", status)]);
    assert_eq!((open("pending"), open("running")), (Some(1.0), Some(2.0)));
}

#[tokio::test]
async fn durations() {
    let mut cases = Cases::new().await;
    let (first, last) = ("'4713-01-01 00:00:00 BC'", "'294276-12-31 23:59:59.999999'");
    for (started, completed, value) in [
        ("'2026-01-01 00:00:00'", "'2026-01-01 00:00:01'", Is(1000.0)),
        ("'2026-01-01 00:00:00'", "'2026-01-01 00:00:00'", Is(0.0)),
        ("'2026-01-01 00:00:00'", "'2026-01-01 00:00:00.000250'", Is(0.25)),
        ("'2026-01-01 00:00:00'", "'2026-01-02 00:00:00'", Is(86_400_000.0)),
        ("'1969-12-31 23:59:59'", "'1970-01-01 00:00:01'", Is(2000.0)),
        ("NULL", "'2026-01-01 00:00:00'", Missing),
        ("'2026-01-01 00:00:00'", "NULL", Missing),
        ("NULL", "NULL", Missing),
        ("'2026-01-01 00:00:01'", "'2026-01-01 00:00:00'", Rejected),
        ("'2026-01-01 00:00:00.000001'", "'2026-01-01 00:00:00'", Rejected),
        ("'2026-01-01 00:00:00'", "'infinity'", Rejected),
        ("'-infinity'", "'2026-01-01 00:00:00'", Rejected),
        ("'-infinity'", "'infinity'", Rejected),
        ("'infinity'", "'infinity'", Rejected),
        ("'infinity'", "'2026-01-01 00:00:00'", Rejected),
        ("'infinity'", "NULL", Missing),
        // All the time there is, as PostgreSQL counts it.
        (first, last, Is(9_435_181_536_000_000.0)),
        (last, first, Rejected),
        (first, first, Is(0.0)),
        (last, last, Is(0.0)),
    ] {
        let case = format!("{started} {completed}");
        let edit = |row| Validation { started_at: started.into(), completed_at: completed.into(), ..row };
        cases.validation(&case, edit, |counted| counted.duration_ms = value.of("duration_ms", counted)).await;
    }
    cases.check().await;
}

#[tokio::test]
async fn the_newest_execution() {
    let db = Database::new().await;
    let repo = db.repository("a/b").await;
    let insert = |status: &'static str, completed: &str, updated: &str| {
        let row = Validation { status, completed_at: completed.into(), ..Validation::completed(repo, "{}") };
        db.insert(Validation { started_at: "NULL".into(), updated_at: updated.into(), ..row })
    };
    let newest = async || once(&db).await.value("rsolv_validation_last_execution_timestamp_seconds", &[]);
    let old = "'2020-01-01 00:00:00'";
    insert("running", "NULL", old).await;
    for never in ["'infinity'", "'-infinity'", "timezone('UTC', now()) + interval '1 hour'", "'294276-12-31 23:59:59'"]
    {
        insert("completed", never, old).await;
        insert("failed", "NULL", never).await;
    }
    assert_eq!(newest().await, None, "no time that was");
    insert("completed", "'4713-01-01 00:00:00 BC'", old).await;
    assert_eq!(newest().await, Some(-210_863_520_000.0));
    insert("completed", "'2021-01-01 00:00:00'", "'2022-01-01 00:00:00'").await;
    assert_eq!(newest().await, Some(1_609_459_200.0), "completed_at, and UTC whatever the database thinks");
    insert("failed", "NULL", "'2022-01-01 00:00:00.5'").await;
    assert_eq!(newest().await, Some(1_640_995_200.5), "updated_at where there is no completed_at");
    let zone = format!("ALTER DATABASE {} SET timezone = 'Asia/Kolkata'", db.name);
    db.batch(&zone).await;
    assert_eq!(newest().await, Some(1_640_995_200.5));
}
