//! The server works, but a table cannot be read.

use super::{Trial, slow_queries};
use crate::support::database::{Database, READ_ALL, SCHEMA};
use crate::support::execution::Validation;
use crate::support::metrics::Metrics;

#[tokio::test]
async fn no_privileges() {
    let db = Database::new().await;
    let role = db.role(&[READ_ALL]).await;
    let mut trial = Trial::start_as(&role, db, &[]).await;
    trial.db.batch(&format!("REVOKE SELECT ON validation_executions FROM {role}")).await;
    trial.fails("privilege").await;
    the_other_source_is_read(&trial).await;
    trial.insert(2).await;
    trial.db.batch(&format!("GRANT SELECT ON validation_executions TO {role}")).await;
    trial.recovers().await;
    trial.db.batch(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_table_dropped_and_created_again() {
    let mut trial = Trial::start(Database::new().await, &[]).await;
    trial.db.batch("DROP TABLE validation_executions").await;
    trial.fails("missing").await;
    the_other_source_is_read(&trial).await;
    let table = SCHEMA.split(';').find(|sql| sql.contains("CREATE TABLE validation_executions")).unwrap();
    trial.db.batch(table).await;
    // Their ids are those that have been counted before.
    trial.insert(2).await;
    trial.recovers().await;
}

#[tokio::test]
async fn a_column_renamed() {
    let mut trial = Trial::start(Database::new().await, &[]).await;
    trial.db.batch("ALTER TABLE validation_executions RENAME completed_at TO finished_at").await;
    let metrics = trial.fails("missing").await;
    the_other_source_is_read(&trial).await;
    let before = metrics.failures("missing");
    trial.exporter.wait_for("more failures", |m| m.failures("missing") > before + 2.0).await;
    // Once as it was read, once more as its columns are looked up anew.
    let log = trial.exporter.log();
    assert!((1..=2).contains(&trial.logged("column e.completed_at does not exist")), "{log}");
    trial.db.batch("ALTER TABLE validation_executions RENAME finished_at TO completed_at").await;
    trial.insert(2).await;
    trial.recovers().await;
}

#[tokio::test]
async fn a_lock_held_by_ddl() {
    let mut trial = Trial::start(Database::new().await, &[]).await;
    let ddl = trial.db.client().await;
    ddl.batch_execute("BEGIN; ALTER TABLE validation_executions ADD COLUMN extra int").await.unwrap();
    trial.fails("lock").await;
    the_other_source_is_read(&trial).await;
    ddl.batch_execute(&String::from(Validation::completed(trial.repo, "{}"))).await.unwrap();
    trial.inserted += 1.0;
    ddl.batch_execute("COMMIT").await.unwrap();
    trial.recovers().await;
}

#[tokio::test]
async fn a_statement_that_takes_too_long() {
    let db = Database::new().await;
    let slow = slow_queries(&db).await;
    slow.add(
        "mitigation_executions",
        include_str!("../../../queries/mitigation_executions.sql"),
        include_str!("../../../queries/mitigation_executions.toml"),
    );
    let mut trial = Trial::start(db, &slow.flags()).await;
    trial.db.batch("UPDATE delay SET seconds = 5").await;
    trial.insert(2).await;
    trial.fails("timeout").await;
    the_other_source_is_read(&trial).await;
    assert!(trial.exporter.log().contains("statement_timeout"), "{}", trial.exporter.log());
    trial.db.batch("UPDATE delay SET seconds = 0").await;
    trial.recovers().await;
    assert_eq!(trial.proxy.connections().accepted, 1, "the connection can be kept");
}

/// While one source fails, the other one is shown, also where a poll takes longer than its data is fresh.
async fn the_other_source_is_read(trial: &Trial<'_>) {
    let is_read = |m: &Metrics| {
        let up = m.value("rsolv_exporter_source_up", &[("source", "mitigation_executions")]);
        let is_shown = m.matching("rsolv_mitigation_executions_open", &[]).next().is_some();
        up == Some(1.0) && is_shown && !m.is_up() && m.validations() == 0.0
    };
    trial.exporter.wait_for("the other source", is_read).await;
}
