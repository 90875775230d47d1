//! Executions that go wrong page someone, and going right ends it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::stack::{self, Stack, runbook};
use crate::support::database::Database;
use crate::support::execution::{Mitigation, Validation};

/// Name, component, summary, description.
const ALERTS: [[&str; 4]; 3] = [
    [
        "ValidationSuccessRateLow",
        "validation",
        "Fewer than half of the validations in production succeed",
        "25% of the validations in production succeeded, in the worst of the last hour, 6 hours and day (threshold 50%; \
         timeouts count as failures).",
    ],
    [
        "ValidationDurationHigh",
        "validation",
        "Validations in production take more than five minutes on average",
        "A validation in production took 7m 45s on average, in the worst of the last hour, 6 hours and day (threshold 5 \
         minutes).",
    ],
    [
        "MitigationTrustScoreLow",
        "mitigation",
        "The average trust score of mitigations in production is below 60",
        "The average trust score in production was 40.0 of 100, in the worst of the last hour, 6 hours and day \
         (threshold 60).",
    ],
];

#[tokio::test]
async fn failing_slow_and_distrusted_executions_page_until_good_ones_outweigh_them() {
    let database = Database::new().await;
    let exporter = stack::exporter(&database, &[]).await;
    let stack = Stack::watching(&exporter.address).await;
    let repo = database.repository("org/app").await;
    // New series are born at 0, where Prometheus sees them first. One transaction: their numbers come in one scrape.
    let data = json!({"language": "ruby", "framework": "rails", "trust_score": 40});
    let minutes = |number: u64| Duration::from_secs(60 * number);
    let mut rows: Vec<String> = Vec::new();
    for status in ["completed", "completed", "failed", "failed", "failed", "timeout", "timeout", "timeout"] {
        let row = Validation::completed(repo, &data).took(minutes(if status == "completed" { 1 } else { 10 }));
        rows.push(match status {
            "timeout" => Validation { status: "failed", error_message: Some("timed out".into()), ..row }.into(),
            _ => Validation { status, ..row }.into(),
        });
    }
    rows.extend((0..5).map(|_| Mitigation::completed(repo, &data).into()));
    database.batch(&rows.join(";")).await;

    for [name, component, summary, description] in ALERTS {
        stack.fires(name, ("critical", component), summary, description).await;
        let [bold, link] = [format!("*{summary}*"), format!("<{}|Runbook>", runbook(name))];
        let event = stack.pagerduty("trigger", summary).await;
        let details = event["payload"]["custom_details"].to_string();
        assert!(details.contains(description) && details.contains(&runbook(name)), "{event}");
        assert_eq!(
            (&event["payload"]["severity"], &event["payload"]["group"]),
            (&json!("critical"), &json!("production"))
        );
        let count = ALERTS.iter().filter(|alert| alert[1] == component).count();
        let title = format!("FIRING {count}: critical {component} in production");
        assert_eq!(stack.slack(&title, &[&bold, description, &link]).await, "#rsolv-alerts");
    }

    let data = json!({"language": "ruby", "framework": "rails", "trust_score": 90});
    let validations = (0..10).map(|_| String::from(Validation::completed(repo, &data)));
    let mitigations = (0..10).map(|_| String::from(Mitigation::completed(repo, &data)));
    database.batch(&validations.chain(mitigations).collect::<Vec<_>>().join(";")).await;
    for [name, component, ..] in ALERTS {
        let alert = stack.notified("resolved", name).await;
        assert_eq!(alert["annotations"]["runbook_url"], runbook(name));
        stack.slack(&format!("RESOLVED: critical {component} in production"), &[]).await;
    }
    // The event that ends a page lists no alert that fires.
    stack.pagerduty("resolve", "").await;
    assert_eq!(stack.names(), ALERTS.iter().map(|alert| alert[0].to_owned()).collect::<BTreeSet<_>>());
}
