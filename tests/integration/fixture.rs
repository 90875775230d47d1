//! Rows of every kind, and a role that may read no more than it must.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use rsolv_exporter::config::{Settings, load};
use rsolv_exporter::poll::Poller;
use rsolv_exporter::snapshot::SnapshotStore;
use rsolv_exporter::source::Source;
use rsolv_exporter::telemetry::self_metrics::Metrics;
use serde_json::json;

use crate::support::database::Database;
use crate::support::execution::{Mitigation, Validation};

/// A repository whose name has all that needs an escape somewhere.
pub const ODD: &str = "org/o'dd\\ \"na\nme";

/// Columns that the shipped queries read, by table.
const GRANTS: [(&str, &str); 3] = [
    ("repositories", "id, full_path"),
    (
        "validation_executions",
        "id, repository_id, status, vulnerabilities_found, data, started_at, completed_at, error_message, inserted_at, updated_at",
    ),
    (
        "mitigation_executions",
        "id, repository_id, status, pr_url, pr_number, data, started_at, completed_at, error_message, inserted_at, updated_at",
    ),
];

/// The address of `db` for a new role with exactly the grants that the shipped queries need.
pub async fn reader(db: &Database<'_>) -> String {
    let role = format!("reader_{}", db.name);
    db.batch(&format!("CREATE ROLE {role} LOGIN")).await;
    for (table, columns) in GRANTS {
        db.batch(&format!("GRANT SELECT ({columns}) ON {table} TO {role}")).await;
    }
    db.url().replacen("postgres@", &format!("{role}@"), 1)
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

/// What psql prints for `sql`, unaligned and without headings, with tags.
pub async fn psql(url: &str, sql: &str) -> String {
    // Not of the server's installation, which need not have it where its other programs are.
    let mut command = tokio::process::Command::new("psql");
    command.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, "-f", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("psql can be run");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    tokio::io::AsyncWriteExt::write_all(&mut stdin, sql.as_bytes()).await.expect("psql reads");
    drop(stdin);
    let output = child.wait_with_output().await.expect("psql ends");
    assert!(output.status.success(), "{}\n{sql}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("psql prints UTF-8")
}

/// Polls the database at `url` once, so that the state file at `path` has what is there now.
pub async fn save_state(url: &str, path: &Path, more: &[(&str, &str)]) {
    let flags = [("database.url", url)].iter().chain(more).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let settings = Settings::check(&load(None, BTreeMap::new(), flags).unwrap()).unwrap();
    let sources = Source::shipped().unwrap();
    let metrics = Metrics::new(&sources);
    let mut poller = Poller::new(&settings, sources, metrics, Arc::new(SnapshotStore::default()));
    poller.keep_state(path).unwrap();
    poller.poll().await.unwrap();
}

/// What `check` prints, without what depends on the moment, the machine and the server's version.
pub fn steady_check(text: &str) -> String {
    let mut in_plan = false;
    let lines = text.lines().filter_map(|line| {
        let title = line.get(2..11).unwrap_or_default().trim_end();
        in_plan = title == "plan" || (in_plan && title.is_empty());
        match line.split_whitespace().next() {
            _ if in_plan => (title == "plan").then(|| "  plan       …\n".to_owned()),
            Some(word @ ("clock" | "cost")) => Some(format!("  {word:<9}  …\n")),
            _ => Some(format!("{line}\n")),
        }
    });
    lines.collect()
}
