//! Native histograms as Prometheus stores them, beside the truth in SQL and its own bounds.

use std::time::Duration;

use rsolv_exporter::ledger::native::index;

use crate::support::database::Database;
use crate::support::execution::Validation;
use crate::support::exporter::Exporter;
use crate::support::prometheus::Prometheus;
use crate::support::scratch::Scratch;
use crate::support::state::State;

const METRIC: &str = "rsolv_validation_duration_milliseconds";
const ROWS: u32 = 2000;

/// Some of so many validations that took from a millisecond to an hour, as many in each order of magnitude.
async fn insert(db: &Database<'_>, repo: i64, which: std::ops::Range<u32>) {
    let row = |i: u32| {
        let took = 0.001 * 3_600_000_f64.powf(f64::from(i) / f64::from(ROWS - 1));
        String::from(Validation::completed(repo, "{}").took(Duration::from_secs_f64(took)))
    };
    let rows: Vec<String> = which.map(row).collect();
    db.batch(&rows.join(";\n")).await;
}

#[tokio::test]
async fn quantiles_are_near_the_truth_over_a_restart_without_anyone_choosing_bounds() {
    let (db, state) = (Database::new().await, State::new());
    let repo = db.repository("org/app").await;
    insert(&db, repo, 0..ROWS / 2).await;
    let mut exporter = state.exporter(&db, &[]).await;
    exporter.wait_for("the first half", |m| m.sum(&format!("{METRIC}_count"), &[]) == f64::from(ROWS / 2)).await;
    exporter.kill9().await;
    insert(&db, repo, ROWS / 2..ROWS).await;
    let exporter = state.exporter(&db, &[]).await;
    let prometheus = Prometheus::with_feature("native-histograms", &exporter.address, "").await;
    let all = |found: &[(_, f64)]| found.iter().map(|f| f.1).eq([f64::from(ROWS)]);
    prometheus.wait_for(&format!("histogram_count({METRIC})"), all).await;

    let sum = prometheus.query(&format!("histogram_sum({METRIC})")).await[0].1;
    let took = "extract(epoch FROM completed_at - started_at) * 1000";
    let of = async |what: &str| -> f64 {
        db.value(&format!("SELECT {what} FROM validation_executions")).await.parse().unwrap()
    };
    let truth = of(&format!("sum({took})")).await;
    assert!((sum / truth - 1.0).abs() < 1e-9, "{sum} is not {truth}");
    for q in [0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99] {
        let found = prometheus.query(&format!("histogram_quantile({q}, {METRIC})")).await[0].1;
        let truth = of(&format!("percentile_cont({q}) WITHIN GROUP (ORDER BY {took})")).await;
        assert!((found / truth - 1.0).abs() < 0.05, "p{q} is {truth}, and Prometheus says {found}");
    }
}

#[tokio::test]
async fn bounds_are_those_of_prometheus() {
    let db = Database::new().await;
    // One value inside each bucket of the finest schema from 0.5 to 1.
    db.batch(
        "CREATE TABLE own (id bigserial PRIMARY KEY, v float8); \
         INSERT INTO own (v) SELECT 2 ^ ((i + 0.5::float8) / 256 - 1) FROM generate_series(0, 255) AS i",
    )
    .await;
    let queries = Scratch::new("queries", &std::env::temp_dir(), None).unwrap();
    let file = |name: &str, text: &str| std::fs::write(queries.path().join(name), text).unwrap();
    file("own.sql", "SELECT id, true AS done, now() AS at, v FROM own");
    file(
        "own.toml",
        "[[histogram]]\nname = \"x\"\nhelp = \"X.\"\nvalue = \"v\"\nbuckets = [1]\nnative = true\nfactor = 1.001\n\
         max_buckets = 1000\n",
    );
    let exporter = Exporter::start(&db.url(), &["--queries.dir", queries.path().to_str().unwrap()]).await;
    let prometheus = Prometheus::with_feature("native-histograms", &exporter.address, "").await;
    prometheus.wait_for("histogram_count(x)", |found| found.iter().map(|f| f.1).eq([256.0])).await;
    let data = prometheus.api("query", &[("query", "x")]).await;
    let buckets = data["result"][0]["histogram"][1]["buckets"].as_array().expect("buckets");
    assert_eq!(buckets.len(), 256);
    for (i, bucket) in (-255..).zip(buckets) {
        let bound = |at: usize| bucket[at].as_str().and_then(|text| text.parse::<f64>().ok()).expect("a number");
        let (lower, upper) = (bound(1), bound(2));
        assert_eq!(bound(3), 1.0, "{bucket}");
        assert_eq!((index(lower, 8), index(lower.next_up(), 8)), (i - 1, i), "{bucket}");
        assert_eq!((index(upper, 8), index(upper.next_up(), 8)), (i, i + 1), "{bucket}");
        // The bounds of every schema are among those of the finest.
        for schema in 0..8 {
            let width = 1 << (8 - schema);
            let expected = i.div_euclid(width) + i32::from(i.rem_euclid(width) > 0);
            let above = (i + 1).div_euclid(width) + i32::from((i + 1).rem_euclid(width) > 0);
            assert_eq!((index(upper, schema), index(upper.next_up(), schema)), (expected, above), "{schema} {bucket}");
        }
    }
}
