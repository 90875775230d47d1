//! What is printed for a fixed set of data, word for word, and what other programs think of it.
//!
//! `make golden` takes what is printed now as what is expected.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::support::database::Database;
use crate::support::execution::{Mitigation, Validation};
use crate::support::exporter::{self, Exporter};
use crate::support::{python, steady};

/// A few days in the life of two repositories.
async fn two_repositories(db: &Database<'_>) {
    let demo = db.repository("RSOLV-dev/nodegoat-vulnerability-demo").await;
    let other = db.repository("acme/\"quoted\" \\ one").await;
    let days = [(demo, 1, 0.9), (demo, 2, 4.999), (demo, 3, 5.0), (other, 4, 61.5), (demo, 5, 7200.0)];
    for (repo, day, seconds) in days {
        let (started_at, completed_at) = times(day, seconds);
        let data = json!({
            "language": "javascript", "framework": "express", "tests_generated": day, "testsPassed": day - 1,
            "tests_failed": "1", "vulnerabilities": ["xss", "sqli"],
        });
        let row = Validation { started_at, completed_at, ..Validation::completed(repo, data) };
        db.insert(Validation { status: if day == 2 { "failed" } else { "completed" }, ..row }).await;
        let (started_at, completed_at) = times(day, seconds * 10.0);
        let data = json!({ "language": "elixir", "trust_score": 75 + 5 * day, "prUrl": "https://example.org/1" });
        let row = Mitigation { started_at, completed_at, ..Mitigation::completed(repo, data) };
        let error_message = (day == 3).then(|| "timed out".to_owned());
        db.insert(Mitigation { status: if day == 3 { "failed" } else { "completed" }, error_message, ..row }).await;
    }
    db.insert(Validation::completed(demo, r#"{"tests_generated": "many"}"#).at_no_time()).await;
    db.insert(Validation::open(demo, "running", "{}")).await;
}

/// Start and end of something that ended on a day in January 2026.
fn times(day: u32, seconds: f64) -> (String, String) {
    let end = format!("timestamp '2026-01-0{day} 12:00:00'");
    (format!("{end} - interval '{seconds} seconds'"), end)
}

trait AtNoTime {
    fn at_no_time(self) -> Self;
}

impl AtNoTime for Validation {
    /// Neither started nor completed, and updated long ago.
    fn at_no_time(self) -> Self {
        let null = || "NULL".to_owned();
        Self { started_at: null(), completed_at: null(), updated_at: "timestamp '2026-01-01'".into(), ..self }
    }
}

#[tokio::test]
async fn once_prints_this() {
    let db = Database::new().await;
    two_repositories(&db).await;
    let output = exporter::run(&["once", "--database.url", &db.url()]).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    insta::assert_snapshot!(steady::exposition(&text));

    let linted = pipe(Command::new("promtool").args(["check", "metrics"]), &text, "tests/setup.sh prometheus");
    let said = [linted.stdout, linted.stderr].concat();
    // The given names cannot avoid it.
    let avoidable: Vec<String> = String::from_utf8_lossy(&said)
        .lines()
        .filter(|line| !line.ends_with("use base unit \"seconds\" instead of \"milliseconds\""))
        .map(str::to_owned)
        .collect();
    assert_eq!(avoidable, [""; 0]);
}

#[tokio::test]
async fn serve_gives_this_openmetrics() {
    let db = Database::new().await;
    two_repositories(&db).await;
    let exporter = Exporter::start(&db.url(), &["--web.openmetrics-created"]).await;
    exporter.wait_for("a poll", |metrics| metrics.sum("rsolv_exporter_up", &[]) == 1.0).await;
    let response = exporter.request("GET", "/metrics", &[("accept", "application/openmetrics-text")]).await;
    assert_eq!(response.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = response.text();
    let series = accepted(&text);
    // The exporter's own metrics are in the other one.
    let shown = |line: &&str| ![" process_", " rsolv_exporter_"].iter().any(|part| line.contains(part));
    let own = |line: &&str| line.starts_with("process_") || line.starts_with("rsolv_exporter_");
    let shown = text.lines().filter(shown).filter(|line| !own(line));
    insta::assert_snapshot!(steady::exposition(&shown.map(|line| format!("{line}\n")).collect::<String>()));
    assert!(!text.contains("_created{"), "since when history has been counting is not known: {text}");
    let samples = text.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(series, samples, "the parser has seen every sample");
}

#[tokio::test]
async fn openmetrics_of_hostile_labels_is_accepted() {
    let db = Database::new().await;
    for (i, text) in ["\"", "\\", "\n", "a\\nb\n\\\"", "\u{1}\u{7f}\r", "🦀é", "{le=\"1\"} 5 # {}"].iter().enumerate()
    {
        let repo = db.repository(&format!("r/{i}{text}")).await;
        db.insert(Validation::completed(repo, json!({"language": text, "framework": text.repeat(3000)}))).await;
    }
    let exporter = Exporter::start(&db.url(), &[]).await;
    exporter.wait_for("a poll", |metrics| metrics.sum("rsolv_exporter_up", &[]) == 1.0).await;
    let response = exporter.request("GET", "/metrics", &[("accept", "application/openmetrics-text")]).await;
    assert!(accepted(&response.text()) > 7 * 20);
}

/// How many samples Prometheus' Python client finds; it refuses what the OpenMetrics standard forbids.
fn accepted(exposition: &str) -> usize {
    let program = "import sys\nfrom prometheus_client.openmetrics.parser import text_string_to_metric_families as parse\n\
                   text = sys.stdin.buffer.read().decode()\nprint(sum(len(family.samples) for family in parse(text)))";
    python::run(program, exposition.as_bytes()).trim().parse().expect("a number of samples")
}

/// Runs a program that a step of the set-up installs.
fn pipe(command: &mut Command, input: &str, remedy: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}; get it with {remedy}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    std::thread::scope(|scope| {
        // When the program ends early, what it said about that counts.
        scope.spawn(move || _ = stdin.write_all(input.as_bytes()));
        child.wait_with_output().expect("its output")
    })
}
