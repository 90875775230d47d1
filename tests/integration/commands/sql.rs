//! `sql`: pasted into psql, its statements give the numbers that are exported.

use std::collections::BTreeSet;

use crate::support::database::Database;
use crate::support::exporter::run;
use crate::support::metrics::{Metrics, Sample};
use crate::support::psql::psql;
use crate::support::rows::{ODD, fill};

async fn printed(arguments: &[&str]) -> String {
    let output = run(arguments).await;
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The last column of the last row that psql prints for `sql SELECTOR`.
async fn number(url: &str, selector: &str) -> f64 {
    let sql = printed(&["sql", selector, "--database.url", url]).await;
    let output = psql(url, &sql).await;
    let last = output.trim_end().lines().last().unwrap_or_default();
    last.rsplit('|').next().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{selector}:\n{output}\n{sql}"))
}

/// The same number up to the rounding of sums of fractions, whose order is not given.
fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12 * a.abs().max(b.abs())
}

fn selector(sample: &Sample) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let labels: Vec<String> =
        sample.labels.iter().map(|(name, value)| format!("{name}=\"{}\"", quoted(value))).collect();
    // As people copy it from Prometheus.
    format!("{}{{{},instance=\"host:10060\",job=\"rsolv-exporter\"}}", sample.name, labels.join(","))
}

async fn exported(url: &str) -> Metrics {
    let mut metrics = Metrics::parse(&printed(&["once", "--database.url", url]).await);
    metrics.samples.retain(|s| s.name.starts_with("rsolv_") && !s.name.starts_with("rsolv_exporter_"));
    metrics
}

#[tokio::test]
async fn every_metric_is_the_sum_that_psql_gives() {
    let db = Database::new().await;
    fill(&db).await;
    let url = db.reader().await;
    let metrics = exported(&url).await;
    let names: BTreeSet<&str> = metrics.samples.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names.len(), 2 + 3 + 3 + 3 + 5 + 2 + 2 + 2 + 1, "{names:?}");
    for name in names {
        let (ours, theirs) = (metrics.sum(name, &[]), number(&url, name).await);
        assert!(same(ours, theirs), "{name}: exported {ours}, psql {theirs}");
        if let Some(base) = name.strip_suffix("_count") {
            assert_eq!(number(&url, base).await, ours, "{base}");
        }
    }
}

#[tokio::test]
async fn every_series_of_an_oddly_named_repository_is_the_number_that_psql_gives() {
    let db = Database::new().await;
    fill(&db).await;
    let url = db.reader().await;
    let metrics = exported(&url).await;
    let odd = |s: &&Sample| s.labels.get("repo").is_some_and(|repo| repo == ODD) && s.labels["language"] == ODD;
    let series: Vec<&Sample> = metrics.samples.iter().filter(odd).collect();
    assert!(series.len() >= 30, "{}", series.len());
    for sample in series {
        let theirs = number(&url, &selector(sample)).await;
        assert!(same(sample.value, theirs), "{}: psql {theirs}", sample.series());
    }
    let cut = metrics.samples.iter().find(|s| s.labels.get("language").is_some_and(|l| l.len() == 199));
    let cut = cut.expect("a series with a label that was cut");
    assert_eq!(number(&url, &selector(cut)).await, cut.value);
}

#[tokio::test]
async fn matchers_select_as_in_prometheus() {
    let db = Database::new().await;
    fill(&db).await;
    let url = db.reader().await;
    let metrics = exported(&url).await;
    let counted = "rsolv_validation_executions_total";
    let sum = |name: &str, keep: &dyn Fn(&Sample) -> bool| -> f64 {
        metrics.samples.iter().filter(|s| s.name == name && keep(s)).map(|s| s.value).sum()
    };
    let repo = |s: &Sample| s.labels["repo"].clone();
    let tests: [(&str, f64); 6] = [
        ("{status!=\"completed\"}", sum(counted, &|s| s.labels["status"] != "completed")),
        ("{repo=~\"org/.*\"}", sum(counted, &|s| repo(s).starts_with("org/"))),
        ("{repo=~\"org\"}", 0.0),
        ("{repo!~\"(?i)ORG/a.*|x\",status=~\"failed|timeout\"}", {
            sum(counted, &|s| repo(s) != "org/app" && s.labels["status"] != "completed")
        }),
        ("{repo=\"none such\"}", 0.0),
        ("{language=\"unknown\",framework=\"none\"}", {
            sum(counted, &|s| s.labels["language"] == "unknown" && s.labels["framework"] == "none")
        }),
    ];
    for (matchers, expected) in tests {
        assert_eq!(number(&url, &format!("{counted}{matchers}")).await, expected, "{matchers}");
    }
    let bucket = "rsolv_validation_duration_milliseconds_bucket";
    let thousands = |s: &Sample| s.labels["le"].ends_with("000") && s.labels["le"] != "1000";
    for (matchers, expected) in [
        ("{le=~\".*000\",le!=\"1000\"}", sum(bucket, &thousands)),
        ("{le=\"300000.0\"}", sum(bucket, &|s| s.labels["le"] == "300000")),
        ("{le=\"+Inf\",le!=\"+Inf\"}", 0.0),
    ] {
        assert_eq!(number(&url, &format!("{bucket}{matchers}")).await, expected, "{matchers}");
    }
    // A histogram by its own name: what falls into a bucket, not what it counts.
    let over = sum(bucket, &|s| s.labels["le"] == "+Inf") - sum(bucket, &|s| s.labels["le"] == "300000");
    assert!(over > 0.0);
    assert_eq!(number(&url, "rsolv_validation_duration_milliseconds{le=\"+Inf\"}").await, over);
}

#[tokio::test]
async fn without_a_metric_it_prints_a_poll_that_runs() {
    let db = Database::new().await;
    fill(&db).await;
    let url = db.reader().await;
    let sql = printed(&["sql", "--database.url", &url, "--database.statement-timeout", "17s"]).await;
    assert!(sql.contains("READ ONLY") && sql.contains("statement_timeout = 17000"), "{sql}");
    let output = psql(&url, &sql).await;
    assert!(output.ends_with("COMMIT\n") && output.contains("RSOLV-dev/demo|javascript|"), "{output}");
}

#[tokio::test]
async fn what_cannot_be_asked_is_wrong_usage() {
    let url = "postgres://nobody@127.0.0.1:1/none";
    for (arguments, expected) in [
        (["sql", "rsolv_nothing_total"], "there is no metric rsolv_nothing_total"),
        (["rows", "rate(x[5m])"], "expected the end"),
        (["sql", "rsolv_validation_executions_total{repos=\"a\"}"], "its labels: repo, language, framework, status"),
    ] {
        let output = run(&[&arguments[..], &["--database.url", url]].concat()).await;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(expected), "{text}");
    }
}

#[tokio::test]
async fn the_statement_for_people() {
    let db = Database::new().await;
    let url = db.url();
    let one =
        "rsolv_mitigation_executions_total{repo=\"org/app\",language=\"ruby\",framework=\"rails\",status=\"failed\"}";
    let two = "rsolv_mitigation_duration_milliseconds_bucket{repo=~\"org/.*\",le=~\"1000|5000\"}";
    let mut text = String::new();
    for selector in [one, two] {
        text.push_str(&printed(&["sql", selector, "--database.url", &url]).await);
    }
    insta::assert_snapshot!(text);
}
