//! The network swallows, delays or refuses.

use std::time::Duration;

use super::{FLAGS, Trial, failures, slow_queries};
use crate::support::database::Database;
use crate::support::proxy::Fault;

#[tokio::test]
async fn a_black_hole_in_the_middle_of_a_query() {
    let (db, dir) = (Database::new().await, tempfile::tempdir().unwrap());
    slow_queries(&db, dir.path()).await;
    let flags = ["--queries.dir", dir.path().to_str().unwrap()];
    let mut trial = Trial::start(db, &flags).await;
    trial.db.batch("UPDATE delay SET seconds = 0.7").await;
    trial.insert(1).await;
    let name = trial.db.name.clone();
    let sleeps = format!("EXISTS (SELECT FROM pg_stat_activity WHERE datname = '{name}' AND wait_event = 'PgSleep')");
    trial.db.wait_until(&sleeps).await;
    trial.proxy.set(Fault::BlackHole);
    trial.fails("timeout").await;
    trial.db.batch("UPDATE delay SET seconds = 0").await;
    trial.insert(2).await;
    trial.proxy.set(Fault::None);
    trial.recovers().await;
}

#[tokio::test]
async fn a_slow_drip() {
    let mut trial = Trial::start(Database::new().await, &[]).await;
    trial.proxy.set(Fault::Drip(1, Duration::from_millis(50)));
    trial.fails("timeout").await;
    trial.insert(2).await;
    trial.proxy.set(Fault::None);
    trial.recovers().await;
}

#[tokio::test]
async fn connections_that_are_reset_or_refused_are_logged_once() {
    let mut trial = Trial::start(Database::new().await, &[]).await;
    trial.proxy.set(Fault::Reset);
    trial.fails("connect").await;
    trial.proxy.set(Fault::Refuse);
    let refused = "Connection refused";
    let deadline = tokio::time::timeout(Duration::from_secs(30), async {
        while trial.logged(refused) == 0 {
            trial.exporter.wait_polls(1).await;
        }
    });
    deadline.await.expect("a line in the log");
    let before = failures(&trial.exporter.metrics().await, "connect");
    trial.exporter.wait_for("more failures", |m| failures(m, "connect") > before + 3.0).await;
    assert_eq!(trial.logged(refused), 1, "{}", trial.exporter.log());
    trial.insert(2).await;
    trial.proxy.set(Fault::None);
    trial.recovers().await;
    assert_eq!(trial.logged("the database is being read"), 2, "{}", trial.exporter.log());
}

#[tokio::test]
async fn a_slow_network_is_no_outage() {
    let mut trial = Trial::start(Database::new().await, &[]).await;
    trial.proxy.set(Fault::Delay(Duration::from_millis(20)));
    trial.insert(2).await;
    trial.recovers().await;
    assert_eq!(FLAGS[1], "500ms", "a poll of a dozen round trips fits in");
    assert_eq!(failures(&trial.exporter.metrics().await, "timeout"), 0.0);
}
