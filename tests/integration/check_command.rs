//! `check`: what the database holds, how it is read, and what is missing.

use serde_json::Value;

use crate::fixture::{fill, reader, steady_check};
use crate::support::database::Database;
use crate::support::execution::Validation;
use crate::support::exporter::run;

struct Checked {
    code: Option<i32>,
    text: String,
}

async fn check(url: &str, more: &[&str]) -> Checked {
    let output = run(&[&["check", "--database.url", url][..], more].concat()).await;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Checked { code: output.status.code(), text }
}

async fn json(url: &str, more: &[&str]) -> (Option<i32>, Value) {
    let checked = check(url, &[&["--format", "json"], more].concat()).await;
    (checked.code, serde_json::from_str(&checked.text).expect("JSON and nothing else"))
}

#[tokio::test]
async fn a_sound_database_is_explained_to_people() {
    let db = Database::new().await;
    fill(&db).await;
    let url = reader(&db).await;
    let checked = check(&url, &[]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.text);
    let table = checked.text.lines().take_while(|line| *line != "warnings");
    let wide: Vec<&str> = table.filter(|line| line.chars().count() > 80 || line.ends_with(' ')).collect();
    assert!(wide.is_empty(), "wider than a terminal, or with spaces at the end: {wide:#?}");
    let text = steady_check(&checked.text);
    let lines = text.lines().filter(|line| !line.starts_with("database") && !line.starts_with("server"));
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n").replace(&db.name, "DATABASE"));
}

#[tokio::test]
async fn json_says_the_same_to_programs() {
    let db = Database::new().await;
    fill(&db).await;
    db.batch("ANALYZE").await;
    let (code, report) = json(&reader(&db).await, &["--series.limit", "4"]).await;
    assert_eq!((code, &report["good"]), (Some(0), &Value::Bool(true)));
    assert!(report["clock"]["ahead_seconds"].as_f64().unwrap().abs() < 5.0);
    let source = &report["sources"][1];
    assert_eq!(source["name"], "mitigation_executions");
    assert_eq!(source["sample"]["rows"], 60);
    let rejected = source["sample"]["rejected"].as_array().unwrap();
    let high = rejected.iter().find(|r| r["reason"] == "is above 100").unwrap();
    assert_eq!((&high["column"], &high["examples"][0]), (&"trust_score".into(), &59.into()), "trust score 250");
    let series = source["sample"]["series"].as_array().unwrap();
    let first = series.iter().find(|s| s[0] == "rsolv_mitigation_pr_created_total").unwrap();
    assert_eq!(first[1], 5, "four sets and __overflow__");
}

#[tokio::test]
async fn the_statement_of_a_poll_goes_through_the_primary_key() {
    let db = Database::new().await;
    let repo = db.repository("org/app").await;
    let one: String = Validation::completed(repo, "{\"language\": \"go\"}").into();
    let many = one.replace(" VALUES (", " SELECT ").replace(") RETURNING id", " FROM generate_series(1, 30000)");
    db.batch(&many).await;
    db.batch("ANALYZE").await;
    let (code, report) = json(&reader(&db).await, &[]).await;
    assert_eq!(code, Some(0), "{report}");
    let source = &report["sources"][0];
    assert_eq!(source["rows_estimated"], 30_000);
    let scans = source["plan"]["scans"].as_array().unwrap();
    let scan = scans.iter().find(|scan| scan["table"] == "validation_executions").unwrap();
    assert_eq!((&scan["index"], &scan["rows"]), (&"validation_executions_pkey".into(), &10_000.into()));
    assert!(source["plan"]["milliseconds"].as_f64().unwrap() > 0.0 && source["plan"]["cost"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn missing_privileges_come_with_the_grants_that_give_them() {
    let db = Database::new().await;
    let role = format!("bare_{}", db.name);
    db.batch(&format!("CREATE ROLE {role} LOGIN; REVOKE USAGE ON SCHEMA public FROM public")).await;
    db.batch(&format!("GRANT SELECT (id, status) ON mitigation_executions TO {role}")).await;
    let url = db.url().replacen("postgres@", &format!("{role}@"), 1);
    let (code, report) = json(&url, &[]).await;
    assert_eq!(code, Some(1));
    let problems: Vec<&str> = report["problems"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    insta::assert_snapshot!(problems.join("\n").replace(&role, "ROLE"));
    let grants = problems.iter().flat_map(|problem| problem.lines());
    for grant in grants.map(|line| line.trim_start_matches("-> ")).filter(|line| line.starts_with("GRANT")) {
        db.batch(grant).await;
    }
    let checked = check(&url, &[]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.text);
    assert!(!checked.text.contains("can change"), "{}", checked.text);
    db.batch(&format!("GRANT UPDATE (status) ON validation_executions TO {role}")).await;
    let checked = check(&url, &[]).await;
    assert_eq!(checked.code, Some(0));
    assert!(checked.text.contains("can change public.validation_executions"), "{}", checked.text);
}

#[tokio::test]
async fn what_makes_numbers_wrong_is_a_problem() {
    let db = Database::new().await;
    fill(&db).await;
    let url = reader(&db).await;
    let queries = tempfile::tempdir().unwrap();
    let sql = "SELECT e.id, true AS done, e.completed_at AS at, e.status AS s FROM validation_executions AS e, generate_series(1, 2)";
    std::fs::write(queries.path().join("twice.sql"), sql).unwrap();
    let toml = "labels = [\"s\"]\n[[counter]]\nname = \"x_total\"\nhelp = \"X.\"\n";
    std::fs::write(queries.path().join("twice.toml"), toml).unwrap();
    let (code, report) = json(&url, &["--queries.dir", queries.path().to_str().unwrap()]).await;
    assert_eq!(code, Some(1), "{report}");
    assert!(report["problems"][0].as_str().unwrap().contains("more than once"), "{report}");

    db.batch("ALTER TABLE validation_executions ENABLE ROW LEVEL SECURITY").await;
    let checked = check(&url, &[]).await;
    assert_eq!(checked.code, Some(1));
    assert!(checked.text.contains("BYPASSRLS"), "{}", checked.text);
    assert!(checked.text.contains("Not good"), "{}", checked.text);
}
