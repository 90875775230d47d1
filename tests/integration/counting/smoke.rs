//! The platform's staging smoke test: the numbers that the metrics before got wrong.

use serde_json::json;

use crate::support::database::Database;
use crate::support::execution::{Mitigation, Validation};
use crate::support::exporter::{self, Exporter};

const REPO: &str = "RSOLV-dev/nodegoat-vulnerability-demo";

/// Each of these stands in the exposition as it is here, with `SET` for the identifying labels.
const EXPECTED: [&str; 6] = [
    "rsolv_validation_executions_total{SET,status=\"completed\"} 2",
    "rsolv_validation_duration_milliseconds_count{SET} 2",
    "rsolv_validation_test_generated_total{SET} 8",
    "rsolv_mitigation_executions_total{SET,status=\"completed\"} 2",
    "rsolv_mitigation_trust_score_value_sum{SET} 177",
    "rsolv_mitigation_trust_score_value_count{SET} 2",
];

/// What goes without saying there: the other columns of the same rows.
const AND_ALSO: [&str; 7] = [
    "rsolv_validation_test_passed_total{SET} 7",
    "rsolv_validation_test_failed_total{SET} 1",
    "rsolv_validation_vulnerabilities_found_total{SET} 3",
    "rsolv_validation_executions_total{SET,status=\"failed\"} 0",
    "rsolv_validation_executions_total{SET,status=\"timeout\"} 0",
    "rsolv_mitigation_pr_created_total{SET} 2",
    "rsolv_mitigation_duration_milliseconds_count{SET} 2",
];

async fn insert(db: &Database<'_>) {
    let repo = db.repository(REPO).await;
    for (generated, passed, failed, vulnerabilities) in [(5, 4, 1, 2), (3, 3, 0, 1)] {
        let data = json!({
            "language": "javascript", "framework": "express", "validated": true, "tests_generated": generated,
            "tests_passed": passed, "tests_failed": failed, "vulnerabilities": vec![json!({"type": "xss"}); vulnerabilities],
        });
        db.insert(Validation::completed(repo, data)).await;
    }
    for (trust, pr, files) in [(85, 42, 3), (92, 43, 2)] {
        let url = format!("https://github.com/{REPO}/pull/{pr}");
        let data = json!({
            "language": "javascript", "framework": "express", "trust_score": trust,
            "pr_url": url, "pr_number": pr, "files_changed": files,
        });
        let row = Mitigation::completed(repo, data);
        db.insert(Mitigation { pr_url: Some(url), pr_number: Some(pr), files_changed: Some(files), ..row }).await;
    }
}

fn missing(text: &str) -> Vec<String> {
    let set = format!("repo=\"{REPO}\",language=\"javascript\",framework=\"express\"");
    let lines = EXPECTED.iter().chain(&AND_ALSO).map(|line| line.replace("SET", &set));
    lines.filter(|line| !text.lines().any(|have| have == line)).collect()
}

#[tokio::test]
async fn once_gives_the_expected_lines() {
    let db = Database::new().await;
    insert(&db).await;
    let output = exporter::run(&["once", "--database.url", &db.url()]).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(missing(&text), [""; 0], "in\n{text}");
}

#[tokio::test]
async fn serve_gives_the_expected_lines() {
    let db = Database::new().await;
    insert(&db).await;
    let exporter = Exporter::start(&db.url(), &[]).await;
    exporter.wait_for("the expected lines", |metrics| missing(&metrics.text).is_empty()).await;
}

#[tokio::test]
async fn executions_that_arrive_live_give_the_expected_lines() {
    let db = Database::new().await;
    let exporter = Exporter::start(&db.url(), &["--poll.interval", "100ms", "--series.birth-hold", "0s"]).await;
    exporter.wait_polls(2).await;
    insert(&db).await;
    exporter.wait_for("the expected lines", |metrics| missing(&metrics.text).is_empty()).await;
}
