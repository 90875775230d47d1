//! The server is down, hung, or takes no more connections.

use super::{Trial, slow_queries};
use crate::support::cluster::Cluster;
use crate::support::database::{Database, READ_ALL, connect};
use crate::support::execution::Validation;
use crate::support::exporter::Exporter;
use crate::support::metrics::Metrics;
use crate::support::process::{PATIENCE, TICK};
use crate::support::proxy::Fault;

#[tokio::test]
async fn killed_and_stopped() {
    let cluster = Cluster::start(&[]).unwrap();
    let mut trial = Trial::start(Database::on(&cluster).await, &[]).await;
    let stops: [fn(&Cluster) -> _; 3] = [Cluster::kill9, Cluster::stop_fast, Cluster::stop_immediate];
    for stop in stops {
        stop(&cluster).unwrap();
        let before = trial.exporter.metrics().await;
        let down = |m: &Metrics| m.failures("connect") > before.failures("connect") + 1.0;
        trial.exporter.wait_for("failures to connect", down).await;
        trial.fails("connect").await;
        let ready = trial.exporter.get("/-/ready").await;
        assert_eq!((ready.status, trial.exporter.get("/-/healthy").await.status), (503, 200));
        cluster.start_again().unwrap();
        trial.db.reconnect().await;
        trial.insert(2).await;
        trial.recovers().await;
        assert_eq!(trial.exporter.get("/-/ready").await.status, 200);
    }
}

#[tokio::test]
async fn hung() {
    let cluster = Cluster::start(&[]).unwrap();
    let mut trial = Trial::start(Database::on(&cluster).await, &[]).await;
    trial.insert(2).await;
    cluster.pause();
    // First a statement that gets no answer, then connections that get none.
    let what = "two time-outs";
    trial.exporter.wait_for(what, |m| m.failures("timeout") >= 2.0).await;
    trial.fails("timeout").await;
    cluster.resume();
    trial.insert(2).await;
    trial.recovers().await;
    let log = trial.exporter.log();
    // Between polls, or in the middle of one.
    assert!(
        ["2s", "3s"].iter().any(|limit| log.contains(&format!("the server did not answer within {limit}"))),
        "{log}"
    );
    assert!(log.contains("no connection within 2s (database.connect_timeout)"), "{log}");
}

/// The server cannot end it, and this side does not wait much longer than the server would have.
#[tokio::test]
async fn hung_in_the_middle_of_a_statement() {
    let cluster = Cluster::start(&[]).unwrap();
    let db = Database::on(&cluster).await;
    let slow = slow_queries(&db).await;
    let queries = [slow.flags(), ["--database.statement-timeout", "4s"]].concat();
    let own = ["--poll.interval", "500ms", "--series.birth-hold", "0s", "--database.connect-timeout", "1s"];
    let exporter = Exporter::start(&db.url(), &[&own, &queries[..]].concat()).await;
    exporter.wait_for("a poll", Metrics::is_up).await;
    let repo = db.repository("a/b").await;
    db.batch("UPDATE delay SET seconds = 3600").await;
    db.insert(Validation::completed(repo, "{}")).await;
    let sleeps =
        "EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'rsolv-exporter' AND wait_event = 'PgSleep')";
    db.wait_until(sleeps).await;
    cluster.pause();
    exporter.wait_for("a time-out", |m| m.failures("timeout") >= 2.0).await;
    let log = exporter.log();
    assert!(log.contains("the server did not answer within 6s"), "{log}");
    assert!(log.contains("no connection within 1s (database.connect_timeout)"), "{log}");
    cluster.resume();
    db.batch("UPDATE delay SET seconds = 0").await;
    exporter.wait_for("the row", |m| m.is_up() && m.validations() == 1.0).await;
}

/// A poll that only reads new rows is given up sooner than the setting allows, once: the next one may take as long as it says.
#[tokio::test]
async fn a_steady_statement_may_take_ten_seconds_until_one_takes_longer() {
    let db = Database::new().await;
    let slow = slow_queries(&db).await;
    let own = ["--poll.interval", "500ms", "--series.birth-hold", "0s"];
    let exporter = Exporter::start(&db.url(), &[&own, &slow.flags()[..]].concat()).await;
    exporter.wait_for("a poll", Metrics::is_up).await;
    let repo = db.repository("a/b").await;
    db.batch("UPDATE delay SET seconds = 12").await;
    db.insert(Validation::completed(repo, "{}")).await;
    let metrics = exporter.wait_for("the row", |m| m.validations() == 1.0).await;
    assert_eq!(metrics.failures("timeout"), 1.0, "{}", exporter.log());
}

/// Behind a pooler, or in a statement with a long timeout, it can take minutes until a poll fails.
#[tokio::test]
async fn a_poll_that_hangs_is_no_success() {
    let db = Database::new().await;
    let slow = slow_queries(&db).await;
    let repo = db.repository("a/b").await;
    db.insert(Validation::completed(repo, "{}")).await;
    let queries = [slow.flags(), ["--database.statement-timeout", "5m"]].concat();
    let flags = [&["--poll.interval", "500ms", "--database.connect-timeout", "1s"], &queries[..]].concat();
    let exporter = Exporter::start(&db.url(), &flags).await;
    exporter.wait_for("a poll", Metrics::is_up).await;
    db.batch("UPDATE delay SET seconds = 3600").await;
    db.insert(Validation::completed(repo, "{}")).await;
    let metrics = exporter.wait_for("a poll that is overdue", |m| !m.is_up()).await;
    let (polls, failed) = ("rsolv_exporter_polls_total", "rsolv_exporter_poll_failures_total");
    assert_eq!(metrics.sum(failed, &[]), 0.0);
    let later = exporter.metrics().await;
    assert_eq!((later.sum(polls, &[]), later.is_up()), (metrics.sum(polls, &[]), false), "it hangs");
    db.batch("UPDATE delay SET seconds = 0").await;
    db.batch("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'rsolv-exporter'").await;
    exporter.wait_for("a poll that ends", Metrics::is_up).await;
}

#[tokio::test]
async fn too_many_connections() {
    // Three are kept for superusers, and one is the test's own.
    let cluster = Cluster::start(&[("max_connections", "6"), ("superuser_reserved_connections", "3")]).unwrap();
    let db = Database::on(&cluster).await;
    let role = db.role(&[READ_ALL]).await;
    let mut trial = Trial::start_as(&role, db, &[]).await;

    // All that ordinary users may have, are taken.
    trial.proxy.set(Fault::Refuse);
    trial.proxy.cut();
    let url = trial.db.url_as(&role);
    let mut taken = Vec::new();
    let everything = async {
        while taken.len() < 2 {
            // The exporter's own connection takes a moment to end.
            taken.extend(connect(&url).await.ok());
            tokio::time::sleep(TICK).await;
        }
    };
    tokio::time::timeout(PATIENCE, everything).await.expect("two connections");
    trial.proxy.set(Fault::None);
    trial.fails("connect").await;
    let log = trial.exporter.log();
    assert!(log.contains("SQLSTATE 53300"), "{log}");
    trial.insert(2).await;
    drop(taken);
    trial.recovers().await;

    // The role's own limit.
    trial.db.batch(&format!("ALTER ROLE {role} CONNECTION LIMIT 0")).await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rsolv-exporter'";
    trial.db.batch(end).await;
    trial.fails("connect").await;
    let log = trial.exporter.log();
    assert!(log.contains("too many connections for role"), "{log}");
    trial.insert(2).await;
    trial.db.batch(&format!("ALTER ROLE {role} CONNECTION LIMIT 1")).await;
    trial.recovers().await;
}
