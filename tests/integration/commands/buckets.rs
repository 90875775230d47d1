//! `buckets`: bounds from the real values, and how wrong today's are.

use rsolv_exporter::source::Source;

use crate::support::database::Database;
use crate::support::execution::{Validation, before_now};
use crate::support::exporter::run;
use crate::support::source::Definitions;

const METRIC: &str = "rsolv_validation_duration_milliseconds";

/// A hundred validations that took 2010, 2020, … 3000 ms, and an old one that took a day.
async fn a_hundred_and_an_old_one(db: &Database<'_>) {
    let repo = db.repository("org/app").await;
    let ago = |seconds| before_now(std::time::Duration::from_secs(seconds));
    let day = 86_400;
    let old =
        Validation { started_at: ago(41 * day), completed_at: ago(40 * day), ..Validation::completed(repo, "{}") };
    db.insert(old).await;
    for i in 1..=100 {
        let took = std::time::Duration::from_millis(2000 + 10 * i);
        db.insert(Validation::completed(repo, "{}").took(took)).await;
    }
}

#[tokio::test]
async fn it_suggests_bounds_and_tells_the_error_of_todays() {
    let db = Database::new().await;
    a_hundred_and_an_old_one(&db).await;
    let url = db.reader().await;
    let output = run(&["buckets", METRIC, "--database.url", &url]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    // p50 is 2500; Prometheus interpolates between 1000 and 5000 and says 3000.
    let p50: Vec<&str> = text.lines().find(|line| line.contains("p50")).unwrap().split_whitespace().collect();
    assert_eq!(&p50[..4], ["p50", "2.5s", "3s", "+20.0"], "{text}");
    let p50 = db.value("SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY completed_at - started_at) FROM validation_executions WHERE id > 1").await;
    assert_eq!(p50, "00:00:02.5");
    insta::assert_snapshot!(text);

    // The TOML can be pasted: with it in place of the old one, the definition is sound and has the new bounds.
    let (_, toml) = text.split_once("# In validation_executions.toml").unwrap();
    let (_, toml) = toml.split_once('\n').unwrap();
    let old = include_str!("../../../queries/validation_executions.toml");
    let start = old.find("[[histogram]]").unwrap();
    let end = start + old[start..].find("\n\n").unwrap();
    let new = format!("{}{toml}{}", &old[..start], &old[end..]);
    let sql = include_str!("../../../queries/validation_executions.sql").to_owned();
    let sources = Source::parse(vec![("validation_executions".into(), sql, new)], "queries").unwrap();
    let metric = |source: &Source| source.metrics.iter().find(|m| m.name == METRIC).unwrap().clone();
    let (ours, shipped) = (metric(&sources[0]), metric(&Source::shipped().unwrap()[0]));
    assert_ne!(ours.kind, shipped.kind);
    assert_eq!((ours.help, ours.unit, ours.labels), (shipped.help, shipped.unit, shipped.labels));
}

#[tokio::test]
async fn since_reaches_further_back_and_nothing_is_an_error() {
    let db = Database::new().await;
    a_hundred_and_an_old_one(&db).await;
    let url = db.reader().await;
    let all = ["buckets", METRIC, "--database.url", &url, "--since", "50d"];
    let text = String::from_utf8(run(&all).await.stdout).unwrap();
    assert!(text.contains("101 values") && text.contains("to 1d"), "{text}");
    let none = format!("{METRIC}{{repo=\"none\"}}");
    let output = run(&["buckets", &none, "--database.url", &url]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no values within 30 d"), "{output:?}");
    let output = run(&["buckets", "rsolv_validation_executions_total", "--database.url", &url]).await;
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test]
async fn zeros_say_nothing_about_bounds() {
    let db = Database::new().await;
    let repo = db.repository("org/app").await;
    let url = db.reader().await;
    let ask = async || {
        let output = run(&["buckets", METRIC, "--database.url", &url]).await;
        String::from_utf8(output.stdout).unwrap()
    };
    let zero = || Validation::completed(repo, "{}").took(std::time::Duration::ZERO);
    db.insert(zero()).await;
    let text = ask().await;
    assert!(text.contains(": 1 value within 30 d, from 0s to 0s\nAll values are 0"), "{text}");
    db.insert(zero()).await;
    let text = ask().await;
    assert!(text.contains(": 2 values within") && !text.contains("buckets = "), "{text}");
}

#[tokio::test]
async fn bounds_that_serve_well_are_left_alone() {
    let db = Database::new().await;
    a_hundred_and_an_old_one(&db).await;
    let url = db.reader().await;
    let ask = async |more: &[&str]| {
        let output = run(&[&["buckets", METRIC, "--database.url", &url], more].concat()).await;
        String::from_utf8(output.stdout).unwrap()
    };
    let suggested = ask(&[]).await;
    let suggested = suggested.lines().find(|line| line.starts_with("buckets = ")).expect("bounds");
    // With what it suggests there is nothing to suggest.
    let sql = include_str!("../../../queries/validation_executions.sql");
    let toml = include_str!("../../../queries/validation_executions.toml");
    let toml = toml.replace("buckets = [1000, 5000, 10000, 30000, 60000, 120000, 300000]", suggested);
    assert!(toml.contains(suggested));
    let definitions = Definitions::one("validation_executions", sql, &toml);
    let text = ask(&definitions.flags()).await;
    assert!(text.contains("there is no reason to change them") && !text.contains("buckets = "), "{text}");
}
