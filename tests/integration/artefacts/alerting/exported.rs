//! What rules, panels and runbooks may name is what the exporter exports.

use std::collections::{BTreeMap, BTreeSet};

use super::stack::EXPORTER;
use crate::support::database::Database;
use crate::support::rows::one_of_each;
use crate::support::state::State;

/// The checks of rules, dashboards and runbooks let pass what stands here.
const LIST: &str = include_str!("../../../alerts/exported-metrics.txt");

/// Metrics with their type, of the exporter and of Prometheus about its targets.
pub fn listed() -> (BTreeMap<&'static str, &'static str>, Vec<&'static str>) {
    let (ours, scraper) = LIST.split_once("# Written by Prometheus").expect("two parts");
    let of = |text: &'static str| text.lines().filter(|line| !line.starts_with('#')).filter_map(|l| l.split_once(' '));
    (of(ours).collect(), of(scraper).filter(|(_, kind)| *kind == "gauge").map(|(name, _)| name).collect())
}

#[tokio::test]
async fn the_list_of_metrics_is_what_a_scrape_has() {
    let (database, state) = (Database::new().await, State::new());
    one_of_each(&database).await;
    let exporter = state.exporter(&database, &[]).await;
    let metrics = exporter.wait_for("the rows", |m| m.sum("rsolv_exporter_rows_counted_total", &[]) == 2.0).await;
    let exported: BTreeMap<&str, &str> =
        metrics.text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    assert_eq!(exported, listed().0);
    // A type without a sample is no metric.
    let names: BTreeSet<&str> = metrics.samples.iter().map(|sample| sample.name.as_str()).collect();
    for (name, kind) in exported {
        let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        for suffix in suffixes {
            assert!(names.contains(format!("{name}{suffix}").as_str()), "{name}{suffix} has no sample");
        }
    }
}

#[tokio::test]
async fn the_reasons_that_a_rule_selects_are_exported() {
    let database = Database::new().await;
    let exporter = crate::support::exporter::Exporter::start(&database.url(), &[]).await;
    let metrics = exporter.metrics().await;
    let (_, after) = EXPORTER.split_once("reason=~\"").expect("a selection by reason");
    let (reasons, _) = after.split_once('"').expect("its end");
    for reason in reasons.split('|') {
        let failures = metrics.value("rsolv_exporter_poll_failures_total", &[("reason", reason)]);
        assert_eq!(failures, Some(0.0), "{reason}");
    }
}
