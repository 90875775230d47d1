//! Through PgBouncer in transaction mode, as Debian ships it.
//!
//! PgBouncer 1.18 crashes at a cancel request: that it still runs proves that none was sent.

use crate::outages::{Trial, slow_queries};
use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::exporter;
use crate::support::metrics::Metrics;
use crate::support::pgbouncer::{PASSWORD, PgBouncer};
use crate::support::source::Definitions;

fn role() -> String {
    format!("postgres:{PASSWORD}")
}

#[tokio::test]
async fn it_counts_and_the_pooler_survives_timeouts_and_kills() {
    let db = Database::new().await;
    let dir = slow_queries(&db).await;
    let mut pooler = PgBouncer::to(db.cluster().port()).unwrap();
    let flags = dir.flags();
    let mut trial = Trial::launch(&role(), pooler.port(), db, &flags).await;

    trial.db.batch("UPDATE delay SET seconds = 5").await;
    trial.insert(2).await;
    trial.fails("timeout").await;
    assert!(trial.exporter.log().contains("SQLSTATE 57014"), "{}", trial.exporter.log());
    // In the middle of the next statement.
    let name = &trial.db.name;
    let sleeps = format!("EXISTS (SELECT FROM pg_stat_activity WHERE datname = '{name}' AND wait_event = 'PgSleep')");
    trial.db.wait_until(&sleeps).await;
    trial.exporter.kill9().await;
    trial.db.batch("UPDATE delay SET seconds = 0").await;

    // Server connections that others have used before.
    let url = trial.db.url_through(pooler.port()).replace("postgres@", &format!("{}@", role()));
    for _ in 0..3 {
        let output = exporter::run(&["once", "--database.url", &url]).await;
        let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && text.contains("status=\"completed\"} 5\n"), "{text}{errors}");
    }
    assert!(pooler.runs(), "{}", pooler.log());
    assert!(!trial.exporter.log().contains(PASSWORD));
}

#[tokio::test]
async fn columns_of_the_databases_own_types() {
    let db = Database::new().await;
    let sql = "SELECT id, status NOT IN ('pending', 'running') AS done, completed_at AS at, status
               FROM validation_executions";
    let toml = "labels = [\"status\"]\n[[counter]]\nname = \"by_status_total\"\nhelp = \"Rows.\"\n";
    let definitions = Definitions::one("enum", sql, toml);
    let repo = db.repository("a/b").await;
    db.insert(crate::support::execution::Validation::completed(repo, "{}")).await;
    let pooler = PgBouncer::to(db.cluster().port()).unwrap();
    let url = db.url_through(pooler.port()).replace("postgres@", &format!("{}@", role()));
    let settings = [["--database.url", &url], definitions.flags()].concat();
    for (command, said) in [
        (&["once"][..], "by_status_total{status=\"completed\"} 1\n"),
        (&["once"], "by_status_total{status=\"completed\"} 1\n"),
        (&["check"], "enum"),
        (&["check"], "enum"),
        (&["rows", "by_status_total"], "completed"),
        (&["rows", "by_status_total"], "completed"),
    ] {
        let output = exporter::run(&[command, &settings].concat()).await;
        let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && text.contains(said), "{command:?}: {text}{errors}");
    }
}

#[tokio::test]
async fn the_pooler_restarts() {
    let db = Database::new().await;
    let mut pooler = PgBouncer::to(db.cluster().port()).unwrap();
    let mut trial = Trial::launch(&role(), pooler.port(), db, &[]).await;
    pooler.restart().unwrap();
    trial.insert(2).await;
    trial.recovers().await;
}

#[tokio::test]
async fn the_server_behind_the_pooler_restarts() {
    let cluster = Cluster::start(&[]).unwrap();
    let db = Database::on(&cluster).await;
    let pooler = PgBouncer::to(cluster.port()).unwrap();
    let mut trial = Trial::launch(&role(), pooler.port(), db, &[]).await;
    cluster.kill9().unwrap();
    let counted =
        |m: &Metrics| ["connect", "connection", "timeout"].iter().map(|reason| m.failures(reason)).sum::<f64>();
    trial.exporter.wait_for("failures", |m| !m.is_up() && counted(m) >= 2.0).await;
    cluster.start_again().unwrap();
    trial.db.reconnect().await;
    trial.insert(2).await;
    // PgBouncer itself tries again only every 15 seconds (server_login_retry).
    trial.exporter.wait_for("what was inserted", |m| m.validations() >= trial.inserted).await;
    trial.recovers().await;
}

#[tokio::test]
async fn statement_pooling_is_named_as_the_reason() {
    let db = Database::new().await;
    let pooler = PgBouncer::with(db.cluster().port(), "pool_mode = statement").unwrap();
    let url = db.url_through(pooler.port()).replace("postgres@", &format!("{}@", role()));
    for command in ["once", "check"] {
        let output = exporter::run(&[command, "--database.url", &url]).await;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let expected = "transaction blocks not allowed in statement pooling mode (SQLSTATE 08P01): a poll is a transaction; \
                        set pool_mode = transaction";
        assert!(!output.status.success() && said.contains(expected), "{said}");
    }
}
