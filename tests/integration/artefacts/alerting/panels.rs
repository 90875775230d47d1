//! Every query of the dashboards, against a Prometheus that scrapes a live exporter.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::exported::listed;
use super::stack;
use crate::support::database::Database;
use crate::support::execution::{Mitigation, Validation};
use crate::support::process::PATIENCE;
use crate::support::prometheus::Prometheus;
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

/// How Prometheus can be made to store histograms.
struct Mode {
    name: &'static str,
    /// The first version that can.
    since: (u32, u32),
    has_classic: bool,
    has_native: bool,
    flags: &'static [&'static str],
    /// What the job says.
    job: &'static str,
}

const MODES: [Mode; 6] = [
    Mode { name: "classic", since: (2, 0), has_classic: true, has_native: false, flags: &[], job: "" },
    Mode { name: "native alone", since: (2, 40), has_classic: false, has_native: true, flags: &[NATIVE], job: "" },
    Mode {
        name: "native beside classic",
        since: (3, 0),
        has_classic: true,
        has_native: true,
        flags: &[NATIVE],
        job: "    always_scrape_classic_histograms: true\n",
    },
    Mode {
        name: "converted alone",
        since: (3, 0),
        has_classic: false,
        has_native: true,
        flags: &[NATIVE],
        job: "    convert_classic_histograms_to_nhcb: true\n    scrape_protocols: [OpenMetricsText1.0.0]\n",
    },
    Mode {
        name: "converted beside classic",
        since: (3, 0),
        has_classic: true,
        has_native: true,
        flags: &[NATIVE],
        job: "    convert_classic_histograms_to_nhcb: true\n    scrape_protocols: [OpenMetricsText1.0.0]\n    \
              always_scrape_classic_histograms: true\n",
    },
    Mode {
        name: "start timestamps",
        since: (3, 0),
        has_classic: true,
        has_native: false,
        flags: &[START],
        job: "    always_scrape_classic_histograms: true\n",
    },
];
const EXEMPLARS: &str = "--enable-feature=exemplar-storage";
const NATIVE: &str = "--enable-feature=native-histograms";
const START: &str = "--enable-feature=created-timestamp-zero-ingestion";

#[tokio::test]
async fn every_panel_returns_the_same_data_whatever_the_variables_and_the_form_of_histograms() {
    let (database, state) = (Database::new().await, State::new());
    let exporter = stack::exporter(&database, &["--state.file", state.path.to_str().unwrap()]).await;
    let (mut stored, version) = (Vec::new(), Prometheus::version());
    for mode in MODES.into_iter().filter(|mode| version >= mode.since) {
        // Nobody is to be notified here.
        let prometheus =
            stack::scraping_with(&[&[EXEMPLARS], mode.flags].concat(), mode.job, &exporter.address, "127.0.0.1:9")
                .await;
        stored.push((mode, prometheus));
    }
    let repo = database.repository("org/app.js").await;
    let data = json!({"language": "javascript", "framework": "express", "trust_score": 85, "tests_generated": 5,
                      "tests_passed": 4, "tests_failed": 1});
    let failed = Validation { status: "failed", ..Validation::completed(repo, &data) };
    let mut rows: Vec<String> = (0..3).map(|_| Validation::completed(repo, &data).into()).collect();
    rows.extend([failed.into(), Mitigation::completed(repo, &data).into(), Mitigation::completed(repo, &data).into()]);
    rows.push(Validation::open(repo, "running", &data).into());
    rows.push(Mitigation::open(repo, "running", &data).into());
    database.batch(&rows.join(";")).await;
    for (mode, prometheus) in &stored {
        let name = mode.name;
        println!("{name}");
        shows_the_truth(prometheus).await;
        // What the list of metrics holds beside the exporter's own.
        for name in listed().1 {
            prometheus.wait_for(&format!("{name}{{job=\"rsolv-exporter\"}}"), |series| series.len() == 1).await;
        }
        let is_there = async |expression: &str| !prometheus.query(expression).await.is_empty();
        assert_eq!(is_there("{__name__=~\"rsolv_.+_bucket\"}").await, mode.has_classic, "{name}");
        assert_eq!(
            is_there("histogram_count(rsolv_validation_duration_milliseconds)").await,
            mode.has_native,
            "{name}"
        );
        // A histogram is there in some form.
        let missing = "ALERTS{alertname=\"RsolvExporterHistogramsMissing\"}";
        assert!(!is_there(missing).await, "{name}");
    }
}

/// Prometheus then asks for protobuf, takes the native histograms of it and throws them away.
#[tokio::test]
async fn start_timestamps_without_any_form_of_histograms_raise_an_alert() {
    if Prometheus::version() < (3, 0) {
        return;
    }
    let (database, state) = (Database::new().await, State::new());
    let exporter = stack::exporter(&database, &["--state.file", state.path.to_str().unwrap()]).await;
    let repo = database.repository("org/app").await;
    database.insert(Validation::completed(repo, "{}")).await;
    let prometheus = stack::scraping_with(&[START], "", &exporter.address, "127.0.0.1:9").await;
    let fires = "ALERTS{alertname=\"RsolvExporterHistogramsMissing\", alertstate=\"firing\"}";
    prometheus.wait_for(fires, |series| series.len() == 1).await;
}

async fn shows_the_truth(prometheus: &Prometheus) {
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
    assert_eq!(value(&shown, "Trust Score Distribution", "above 80 to 90"), 2.0);
    assert_eq!(value(&shown, "Trust Score Distribution", "above 90 to 95"), 0.0);
    assert_eq!(value(&shown, "Language Breakdown", "javascript"), 4.0);
}
