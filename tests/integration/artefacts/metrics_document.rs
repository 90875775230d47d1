//! `doc/`: what it says about metrics is what a scrape has, and its queries work.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::database::Database;
use crate::support::prometheus::Prometheus;
use crate::support::rows::one_of_each;
use crate::support::state::State;

const METRICS: &str = include_str!("../../../doc/metrics.md");

/// A row of the page: type, labels, and the query in the last cell.
struct Documented {
    kind: &'static str,
    labels: BTreeSet<&'static str>,
    query: &'static str,
}

fn documented() -> BTreeMap<&'static str, Documented> {
    let rows = METRICS.lines().filter_map(|line| line.strip_prefix("| `")).map(|row| {
        let cells: Vec<&str> = row.trim_end_matches(" |").split(" | ").collect();
        let labels = cells[2].split(", ").filter(|label| *label != "–").collect();
        let query = cells[4].split('`').nth(1).unwrap_or_else(|| panic!("no query: {row}"));
        (cells[0].trim_end_matches('`'), Documented { kind: cells[1], labels, query })
    });
    rows.collect()
}

#[tokio::test]
async fn every_exported_metric_is_documented_with_its_type_labels_and_a_query_that_works() {
    let (database, state) = (Database::new().await, State::new());
    one_of_each(&database).await;
    let exporter = state.exporter(&database, &[]).await;
    let metrics = exporter.wait_for("the rows", |m| m.sum("rsolv_exporter_rows_counted_total", &[]) == 2.0).await;
    let documented = documented();
    for line in metrics.text.lines() {
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) else { continue };
        let row = documented.get(name).unwrap_or_else(|| panic!("doc/metrics.md lacks {name}"));
        assert_eq!(row.kind, kind, "the type of {name} in doc/metrics.md");
        let suffix = if kind == "histogram" { "_count" } else { "" };
        let samples = metrics.samples.iter().filter(|sample| sample.name == format!("{name}{suffix}"));
        for sample in samples {
            let labels: BTreeSet<&str> = sample.labels.keys().map(String::as_str).collect();
            assert_eq!(row.labels, labels, "the labels of {name} in doc/metrics.md");
        }
    }
    let prometheus = Prometheus::scraping(&exporter.address).await;
    prometheus.wait_up("rsolv-exporter").await;
    for (name, row) in documented {
        assert!(row.query.contains(name), "the query of {name} is about something else");
        prometheus.query(row.query).await;
    }
}
