//! Rows of every kind.

use serde_json::json;

use super::database::Database;
use super::execution::{Mitigation, Validation};

/// A repository whose name has all that needs an escape somewhere.
pub const ODD: &str = "org/o'dd\\ \"na\nme";

/// Inserts a finished and an open execution of each kind.
pub async fn one_of_each(db: &Database<'_>) {
    let repo = db.repository("org/app").await;
    db.insert(Validation::completed(repo, "{}")).await;
    db.insert(Mitigation::completed(repo, r#"{"trust_score": 80}"#)).await;
    db.insert(Validation::open(repo, "running", "{}")).await;
    db.insert(Mitigation::open(repo, "pending", "{}")).await;
}

/// Inserts about a hundred executions: several repositories, languages and statuses, old and new client versions, open
/// rows, values that are rejected, and labels that are trimmed, missing or cut.
pub async fn fill(db: &Database<'_>) {
    let repos = [db.repository("RSOLV-dev/demo").await, db.repository("org/app").await, db.repository(ODD).await];
    let long = format!("{}é{}", "x".repeat(199), "y".repeat(20));
    let languages = [json!("javascript"), json!(" ruby "), json!(""), json!(7), json!(long), json!(ODD)];
    for i in 0..60_u32 {
        let repo = repos[i as usize % 3];
        let language = &languages[i as usize % languages.len()];
        let odd = [json!(i % 7), json!("3"), json!("many"), json!([1]), json!(-3), json!(null), json!(2.5)];
        let value = &odd[i as usize % odd.len()];
        let data = json!({"language": language, "framework": if i % 4 == 0 { json!("express") } else { json!(null) },
            "tests_generated": value, "testsPassed": value, "tests_failed": 1, "vulnerabilities": [1, 2],
            "status": if i % 10 == 7 { "timeout" } else { "x" }});
        let mut row = Validation::completed(repo, data);
        row.started_at = format!("timezone('UTC', now()) - interval '{} milliseconds'", 700 * i * i + 1);
        row.status = if i % 5 == 2 { "failed" } else { "completed" };
        row.vulnerabilities_found = (i % 6 == 0).then_some(i32::try_from(i).unwrap() - 6);
        if i % 9 == 4 {
            row = Validation::open(repo, if i % 2 == 0 { "running" } else { "pending" }, row.data);
        }
        db.insert(row).await;

        let score = [json!(90), json!("85.5"), json!(250), json!(0), json!(100), json!("high"), json!(null)];
        let data = json!({"language": language, "framework": "rails", "trustScore": score[i as usize % score.len()],
            "prUrl": if i % 3 == 0 { "https://example.org/pull/1" } else { "" }});
        let mut row = Mitigation::completed(repo, data);
        row.started_at = format!("timezone('UTC', now()) - interval '{} milliseconds'", 900 * i * i + 1);
        row.status = if i % 4 == 1 { "failed" } else { "completed" };
        row.pr_number = (i % 11 == 5).then_some(42);
        if i % 8 == 6 {
            row = Mitigation::open(repo, "running", row.data);
        }
        db.insert(row).await;
    }
}
