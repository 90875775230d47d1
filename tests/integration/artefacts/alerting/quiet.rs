//! Information: nothing happens, or little. It is told, and pages nobody.

use std::time::Duration;

use super::stack::{self, Stack};
use crate::support::database::Database;
use crate::support::execution::{Mitigation, Validation, before_now};

const TESTS: &str = r#"{"tests_generated": 1}"#;

#[tokio::test]
async fn silence_is_told_without_a_page_until_something_happens() {
    let database = Database::new().await;
    let repo = database.repository("org/app").await;
    let ago = |hours: u64| before_now(Duration::from_secs(3600 * hours));
    let row = Validation::completed(repo, "{}");
    // Failed, so that the completed ones begin at 0, as their tests do: increase() treats them alike.
    database.insert(Validation { status: "failed", started_at: ago(7), completed_at: ago(7), ..row }).await;
    let row = Mitigation::completed(repo, "{}");
    database.insert(Mitigation { started_at: ago(13), completed_at: ago(13), ..row }).await;
    let exporter = stack::exporter(&database, &[]).await;
    let stack = Stack::watching(&exporter.address).await;

    let [validation, mitigation] = ["NoValidationActivity", "NoMitigationActivity"];
    let summary = "No validation has finished in production for six hours";
    let description = "The newest validation in production finished 7h ";
    stack.fires(validation, ("info", "validation"), summary, description).await;
    assert_eq!(stack.slack("FIRING 1: info validation in production", &[summary]).await, "#rsolv-info");
    let summary = "No mitigation has finished in production for twelve hours";
    let description = "The newest mitigation in production finished 13h ";
    stack.fires(mitigation, ("info", "mitigation"), summary, description).await;
    assert_eq!(stack.slack("FIRING 1: info mitigation in production", &[summary]).await, "#rsolv-info");

    // Activity, but with few tests.
    let rows = (0..6).map(|_| String::from(Validation::completed(repo, TESTS)));
    let rows = rows.chain([Mitigation::completed(repo, "{}").into()]);
    database.batch(&rows.collect::<Vec<_>>().join(";")).await;
    stack.notified("resolved", validation).await;
    stack.notified("resolved", mitigation).await;
    let summary = "Validations in production generate fewer than two tests each";
    let description =
        "A validation in production that reported tests had generated 1.00 of them on average over the last day";
    stack.fires("LowTestGenerationRate", ("info", "validation"), summary, description).await;
    let rows = (0..6).map(|_| String::from(Validation::completed(repo, r#"{"tests_generated": 9}"#)));
    database.batch(&rows.collect::<Vec<_>>().join(";")).await;
    stack.notified("resolved", "LowTestGenerationRate").await;

    assert_eq!(stack.count("/pagerduty"), 0, "nobody is paged");
    let titles = stack.titles();
    assert!(titles.iter().all(|title| title.starts_with("FIRING ")), "no word when it ends: {titles:?}");
    assert_eq!(stack.names().len(), 3, "{:?}", stack.names());
}
