//! Exemplars: from a number to the newest row behind it, also through Prometheus.

use super::formats::OPENMETRICS;
use crate::support::exporter::{Exporter, run};
use crate::support::prometheus::Prometheus;
use crate::support::source::Source;

const TABLE: &str = "CREATE TABLE jobs (id bigserial PRIMARY KEY, done bool NOT NULL DEFAULT true, \
                     at timestamptz DEFAULT now(), ms float8, good bool, trace text)";
const SELECT: &str = "SELECT id, done, at, ms, good, trace FROM jobs";
const METRICS: &str = "[[counter]]\nname = \"jobs_total\"\nhelp = \"Jobs.\"\n[[counter]]\nname = \"jobs_good_total\"\n\
                       help = \"Good ones.\"\nwhere = \"good\"\n[[counter]]\nname = \"jobs_spent_total\"\n\
                       help = \"Spent.\"\nsum = \"ms\"\n[[histogram]]\nname = \"jobs_ms\"\nhelp = \"How long.\"\n\
                       value = \"ms\"\nbuckets = [10, 100]\nnative = true\n";

async fn source(toml: &str, rows: &str) -> Source<'static> {
    let source = Source::new(&[TABLE, &format!("INSERT INTO jobs (at, ms, good, trace) VALUES {rows}")]).await;
    source.define("events", SELECT, &format!("{toml}{METRICS}"));
    source
}

/// Each sample that has an exemplar, and the exemplar, as OpenMetrics has them.
async fn exemplars(exporter: &Exporter) -> Vec<(String, String)> {
    let page = exporter.request("GET", "/metrics", &[("accept", OPENMETRICS)]).await.text();
    let lines = page.lines().filter(|line| line.starts_with("jobs_"));
    let pair = |line: &str| {
        let (sample, exemplar) = line.split_once(" # ")?;
        Some((sample.split(' ').next().unwrap_or_default().to_owned(), exemplar.to_owned()))
    };
    lines.filter_map(pair).collect()
}

async fn wait(source: &Source<'_>, expected: &[(&str, &str)]) {
    let deadline = std::time::Instant::now() + crate::support::process::PATIENCE;
    loop {
        let found = exemplars(source.exporter()).await;
        if found.iter().map(|(sample, exemplar)| (sample.as_str(), exemplar.as_str())).eq(expected.iter().copied()) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{found:#?} is not {expected:#?}");
        source.exporter().wait_polls(1).await;
    }
}

#[tokio::test]
async fn each_counter_and_bucket_has_the_newest_row_that_raised_it() {
    let at = |second: u32| format!("'2026-01-31 12:00:{second:02}Z'");
    let rows = format!(
        "({}, 5, true, NULL), ({}, 50, false, NULL), ({}, NULL, true, NULL), ({}, 5000, NULL, NULL)",
        at(1),
        at(2),
        at(3),
        at(0)
    );
    let mut source = source("", &rows).await;
    source.start().await;
    let first = 1_769_860_800;
    let exemplar = |id: u32, value: &str, second: u32| format!("{{id=\"{id}\"}} {value} {}.000", first + second);
    let [total, good, spent] = [exemplar(3, "1", 3), exemplar(3, "1", 3), exemplar(2, "50", 2)];
    let [low, middle, high] = [exemplar(1, "5", 1), exemplar(2, "50", 2), exemplar(4, "5000", 0)];
    let expected = [
        ("jobs_total", total.as_str()),
        ("jobs_good_total", &good),
        ("jobs_spent_total", &spent),
        ("jobs_ms_bucket{le=\"10.0\"}", &low),
        ("jobs_ms_bucket{le=\"100.0\"}", &middle),
        ("jobs_ms_bucket{le=\"+Inf\"}", &high),
    ];
    wait(&source, &expected).await;

    // One that finished earlier, one without a time, one of the future: counted, and no exemplars. One that is newer is.
    let rows = format!(
        "({}, 6, true, NULL), (NULL, 7, true, NULL), (now() + interval '1 day', 8, true, NULL), ({}, 10, false, NULL)",
        at(0),
        at(4)
    );
    source.db.batch(&format!("INSERT INTO jobs (at, ms, good, trace) VALUES {rows}")).await;
    let [total, low] = [exemplar(8, "1", 4), exemplar(8, "10", 4)];
    let mut after = expected;
    (after[0].1, after[2].1, after[3].1) = (&total, &low, &low);
    wait(&source, &after).await;

    // The row that it leads to.
    let url = source.db.url();
    let listed = run(&[&["rows", "--id", "8", "--database.url", &url][..], &source.flags()].concat()).await;
    let said = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.status.success() && said.contains("2026-01-31"), "{listed:?}");
}

#[tokio::test]
async fn what_names_a_row_can_be_another_column_and_there_need_be_none() {
    let long = "x".repeat(124);
    let rows = format!("('2026-01-31Z', 5, true, 'a\"b'), ('2026-02-01Z', 5, true, '{long}')");
    let mut source = source("exemplar = \"trace\"\n", &rows).await;
    source.start().await;
    source.exporter().wait_for("both", |m| m.value("jobs_total", &[]) == Some(2.0)).await;
    let found = exemplars(source.exporter()).await;
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found.iter().all(|(_, exemplar)| exemplar.starts_with("{trace=\"a\\\"b\"} ")), "{found:?}");
    source.stop().await;

    source.start_with(&["--poll.interval", "50ms", "--series.exemplars=false"]).await;
    source.exporter().wait_for("both", |m| m.value("jobs_total", &[]) == Some(2.0)).await;
    source.db.batch("INSERT INTO jobs (ms, good, trace) VALUES (5, true, 'c')").await;
    source.exporter().wait_for("one more", |m| m.value("jobs_total", &[]) == Some(3.0)).await;
    assert_eq!(exemplars(source.exporter()).await, []);
    source.stop().await;

    source.define("events", SELECT, &format!("exemplar = false\n{METRICS}"));
    source.start().await;
    source.db.batch("INSERT INTO jobs (ms, good, trace) VALUES (5, true, 'd')").await;
    source.exporter().wait_for("one more", |m| m.value("jobs_total", &[]) == Some(4.0)).await;
    assert_eq!(exemplars(source.exporter()).await, []);
}

#[tokio::test]
async fn prometheus_keeps_them_from_either_format_and_its_ids_lead_to_rows() {
    let mut source = source("", "(now(), 5, true, NULL)").await;
    source.start().await;
    let address = &source.exporter().address;
    // With native histograms it asks for protobuf.
    let formats = ["exemplar-storage", "exemplar-storage,native-histograms"];
    let mut all = Vec::new();
    for feature in formats {
        all.push(Prometheus::with_feature(feature, address, "").await);
    }
    source.db.batch("INSERT INTO jobs (ms, good) VALUES (7, false)").await;
    let newest = source.db.value("SELECT max(id)::text FROM jobs").await;
    for (prometheus, feature) in all.iter().zip(formats) {
        for (selector, value) in [("jobs_total", "1"), ("jobs_spent_total", "7"), ("jobs_ms_bucket{le=\"10.0\"}", "7")]
        {
            // A histogram with native buckets keeps its exemplars under its own name; Prometheus 2.42 only that of
            // the first bucket which has one.
            let selector =
                if feature.contains("native") && selector.contains("_bucket") { "jobs_ms" } else { selector };
            let deadline = std::time::Instant::now() + crate::support::process::PATIENCE;
            loop {
                let range = [("query", selector), ("start", "2026-01-01T00:00:00Z"), ("end", "2099-01-01T00:00:00Z")];
                let found = prometheus.api("query_exemplars", &range).await;
                let all = found.as_array().into_iter().flatten();
                let mut all = all.flat_map(|series| series["exemplars"].as_array().into_iter().flatten());
                if all.any(|exemplar| exemplar["labels"]["id"] == newest.as_str() && exemplar["value"] == value) {
                    break;
                }
                assert!(std::time::Instant::now() < deadline, "{feature}: {selector} has only {found}");
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        }
    }
}
