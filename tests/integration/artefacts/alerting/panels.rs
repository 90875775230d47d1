//! Every query of the dashboards, against a Prometheus that scrapes a live exporter.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::exported::listed;
use super::stack;
use crate::support::database::Database;
use crate::support::execution::{Mitigation, Validation};
use crate::support::process::PATIENCE;
use crate::support::state::State;

const CHECK: &str = "tests/dashboards/panels_check.py";
/// What the panels show, by dashboard and panel; else which do not.
async fn panels(prometheus: &str, variables: &[&str]) -> Result<Value, String> {
    let mut command = tokio::process::Command::new("python3");
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["-B", CHECK, "--live", &format!("http://{prometheus}")]);
    let output = command.args(variables).kill_on_drop(true).output().await.expect("python3 can be run");
    let [text, errors] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    if output.status.success() { Ok(serde_json::from_str(&text).expect(&text)) } else { Err(text + &errors) }
}

/// The last value that a panel shows under a legend.
fn value(shown: &Value, panel: &str, legend: &str) -> f64 {
    let series = shown["rsolv-executions"][panel].as_array().expect(panel);
    let found = series.iter().find(|series| series[0] == legend).unwrap_or_else(|| panic!("{panel}: {series:?}"));
    found[1].as_array().and_then(|points| points.last()?[1].as_f64()).expect(legend)
}

#[tokio::test]
async fn every_panel_returns_data_whatever_the_variables() {
    let (database, state) = (Database::new().await, State::new());
    let exporter = stack::exporter(&database, &["--state.file", state.path.to_str().unwrap()]).await;
    // Nobody is to be notified here.
    let prometheus = stack::scraping(&exporter.address, "127.0.0.1:9").await;
    let repo = database.repository("org/app.js").await;
    let data = json!({"language": "javascript", "framework": "express", "trust_score": 85, "tests_generated": 5,
                      "tests_passed": 4, "tests_failed": 1});
    let failed = Validation { status: "failed", ..Validation::completed(repo, &data) };
    let mut rows: Vec<String> = (0..3).map(|_| Validation::completed(repo, &data).into()).collect();
    rows.extend([failed.into(), Mitigation::completed(repo, &data).into(), Mitigation::completed(repo, &data).into()]);
    rows.push(Validation::open(repo, "running", &data).into());
    rows.push(Mitigation::open(repo, "running", &data).into());
    database.batch(&rows.join(";")).await;

    let chosen = ["environment=production", "repo=org/app.js", "language=javascript", "framework=express"];
    let deadline = Instant::now() + PATIENCE;
    let shown = loop {
        // With few samples in the window, increase() extrapolates by a large part of it: the number settles with time.
        let settled = |shown: &Value| value(shown, "Total Validation Executions", "in the selected time") == 4.0;
        match panels(&prometheus.address, &chosen).await {
            Ok(shown) if settled(&shown) => break shown,
            Ok(shown) => assert!(Instant::now() < deadline, "after {PATIENCE:?}: {shown:#}"),
            Err(text) => assert!(Instant::now() < deadline, "after {PATIENCE:?}:\n{text}{}", prometheus.log()),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    assert_eq!(value(&shown, "Total Mitigation Executions", "in the selected time"), 2.0);
    assert_eq!(value(&shown, "Validation Success Rate", "success rate"), 0.75);
    assert_eq!(value(&shown, "Trust Score Gauge", "average trust score"), 85.0);
    assert_eq!(value(&shown, "Language Breakdown", "javascript"), 4.0);
    // What the list of metrics holds beside the exporter's own.
    for name in listed().1 {
        prometheus.wait_for(&format!("{name}{{job=\"rsolv-exporter\"}}"), |series| series.len() == 1).await;
    }
}
