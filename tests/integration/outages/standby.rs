//! Standbys: one that cancels queries, one that lags, one that takes over.

use super::{FLAGS, Trial, slow_queries};
use crate::support::cluster::Cluster;
use crate::support::database::{Database, connect};
use crate::support::execution::Validation;
use crate::support::exporter::Exporter;
use crate::support::metrics::Metrics;

/// A primary with a database, and a standby of it.
async fn pair<'c>(primary: &'c Cluster, settings: &[(&str, &str)]) -> (Database<'c>, Cluster) {
    let mut db = Database::on(primary).await;
    let standby = primary.standby(settings).unwrap();
    db.reconnect().await;
    (db, standby)
}

/// Waits until the standby has replayed all that the primary has written.
async fn caught_up(db: &Database<'_>) {
    db.wait_until("EXISTS (SELECT FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_insert_lsn())").await;
}

#[tokio::test]
async fn a_conflict_with_recovery() {
    let primary = Cluster::start(&[]).unwrap();
    // A query of the standby never holds up what it replays.
    let (db, standby) = pair(&primary, &[("max_standby_streaming_delay", "0")]).await;
    let slow = slow_queries(&db).await;
    db.batch("CREATE TABLE churn AS SELECT 1 AS n").await;
    caught_up(&db).await;
    let flags = slow.flags();
    let mut trial = Trial::start_on(standby.port(), db, &flags).await;
    trial.db.batch("UPDATE delay SET seconds = 0.4").await;
    trial.insert(2).await;
    let removing = async {
        loop {
            // Each removes a row version that a snapshot of the standby may still see.
            trial.db.batch("UPDATE churn SET n = n + 1").await;
            trial.db.batch("VACUUM churn").await;
        }
    };
    tokio::select! {
        () = removing => {}
        _ = trial.fails("conflict") => {}
    }
    trial.db.batch("UPDATE delay SET seconds = 0").await;
    trial.recovers().await;
}

#[tokio::test]
async fn a_lagging_standby_behind_the_same_address() {
    let primary = Cluster::start(&[]).unwrap();
    let (db, standby) = pair(&primary, &[]).await;
    let mut trial = Trial::start(db, &[]).await;
    caught_up(&trial.db).await;
    let replica = connect(&standby.url("postgres")).await.unwrap();
    replica.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    trial.insert(2).await;
    trial.wait_counted().await;

    trial.proxy.redirect(standby.port());
    trial.proxy.cut();
    let what = "a failure with reason behind";
    let metrics = trial.exporter.wait_for(what, |m| m.failures("behind") > 0.0).await;
    let shown = metrics.validations();
    assert!(!metrics.is_up() && (shown == 0.0 || shown == trial.inserted), "{shown}");
    trial.fails("behind").await;
    trial.insert(1).await;
    replica.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
    trial.recovers().await;
    let log = trial.exporter.log();
    assert!(trial.logged("the standby lags") == 1 && !log.contains("xmax"), "a line for each poll: {log}");
    let from = trial.db.value("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rsolv-exporter'").await;
    assert_eq!(from, "0", "it reads the standby");
}

#[tokio::test]
async fn failover_to_another_server() {
    let primary = Cluster::start(&[]).unwrap();
    let (db, standby) = pair(&primary, &[]).await;
    let repo = db.repository("a/b").await;
    for _ in 0..3 {
        db.insert(Validation::completed(repo, "{}")).await;
    }
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", standby.port(), primary.port());
    let url = format!("postgresql://postgres@{hosts}/{}?target_session_attrs=read-write", db.name);
    let exporter = Exporter::start(&url, &FLAGS).await;
    exporter.wait_for("three validations", |m| m.is_up() && m.validations() == 3.0).await;
    let reads = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rsolv-exporter'";
    assert_eq!(db.value(reads).await, "1", "it reads the primary");

    db.insert(Validation::completed(repo, "{}")).await;
    caught_up(&db).await;
    primary.kill9().unwrap();
    exporter.wait_for("a failure", |m| !m.is_up() && m.failures("connect") > 0.0).await;
    let client = connect(&standby.url(&db.name)).await.unwrap();
    client.query_one("SELECT pg_promote(true, 30)", &[]).await.unwrap();
    client.batch_execute(&String::from(Validation::completed(repo, "{}"))).await.unwrap();
    exporter.wait_for("all five", |m| m.is_up() && m.validations() == 5.0).await;
    let metrics = exporter.wait_polls(2).await;
    assert_eq!(metrics.validations(), 5.0, "{}", exporter.log());
    let connections: i64 = client.query_one(&format!("SELECT ({reads})::int8"), &[]).await.unwrap().get(0);
    assert_eq!(connections, 1);
}

#[tokio::test]
async fn a_standby_reads_the_history_and_the_primary_only_what_is_new() {
    let primary = Cluster::start(&[]).unwrap();
    let (db, standby) = pair(&primary, &[]).await;
    let repo = db.repository("a/b").await;
    for _ in 0..3 {
        db.insert(Validation::completed(repo, "{}")).await;
    }
    caught_up(&db).await;
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state").display().to_string();
    let flags = [&FLAGS[..], &["--state.file", &state]].concat();
    let mut exporter = Exporter::start(&standby.url(&db.name), &flags).await;
    exporter.wait_for("three validations", |m| m.is_up() && m.validations() == 3.0).await;
    assert!(exporter.terminate().await.success(), "{}", exporter.log());
    drop(standby);

    // What is no longer there cannot be read again.
    db.batch("DELETE FROM validation_executions").await;
    db.insert(Validation::completed(repo, "{}")).await;
    let exporter = Exporter::start(&db.url(), &flags).await;
    exporter.wait_for("the new one too", |m| m.is_up() && m.validations() == 4.0).await;
    let metrics = exporter.wait_polls(2).await;
    assert_eq!(metrics.validations(), 4.0, "{}", exporter.log());
    assert!(!exporter.log().contains("level=warn"), "{}", exporter.log());
}

/// How many connections of the exporter a server has.
async fn readers(server: &Cluster) -> i64 {
    let client = connect(&server.url("postgres")).await.unwrap();
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rsolv-exporter'";
    client.query_one(count, &[]).await.unwrap().get(0)
}

/// `prefer-standby`: one that lags is no reason to wait while another server does not.
#[tokio::test]
async fn instead_of_a_standby_that_lags_another_server_is_read() {
    let primary = Cluster::start(&[]).unwrap();
    let mut db = Database::on(&primary).await;
    let (first, second) = (primary.standby(&[]).unwrap(), primary.standby(&[]).unwrap());
    db.reconnect().await;
    let repo = db.repository("a/b").await;
    let both = "(SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_insert_lsn()) = 2";
    db.wait_until(both).await;
    let lagging = connect(&second.url("postgres")).await.unwrap();
    lagging.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    db.insert(Validation::completed(repo, "{}")).await;
    let hosts = [&first, &second, &primary].map(|server| format!("127.0.0.1:{}", server.port())).join(",");
    let url = format!("postgresql://postgres@{hosts}/{}?target_session_attrs=prefer-standby", db.name);
    let exporter = Exporter::start(&url, &FLAGS).await;
    exporter.wait_for("one validation", |m| m.is_up() && m.validations() == 1.0).await;
    assert_eq!([readers(&first).await, readers(&second).await, readers(&primary).await], [1, 0, 0]);

    first.kill9().unwrap();
    db.insert(Validation::completed(repo, "{}")).await;
    let metrics = exporter.wait_for("both validations", |m| m.is_up() && m.validations() == 2.0).await;
    assert_eq!(metrics.failures("behind"), 0.0, "{}", exporter.log());
    assert_eq!([readers(&second).await, readers(&primary).await], [0, 1]);
}

/// Also without any failure of the connection to it.
#[tokio::test]
async fn a_standby_that_is_promoted_is_left_at_the_next_poll() {
    let primary = Cluster::start(&[]).unwrap();
    let mut db = Database::on(&primary).await;
    let (first, second) = (primary.standby(&[]).unwrap(), primary.standby(&[]).unwrap());
    db.reconnect().await;
    let repo = db.repository("a/b").await;
    db.insert(Validation::completed(repo, "{}")).await;
    let both = "(SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_insert_lsn()) = 2";
    db.wait_until(both).await;
    let hosts = [&first, &second].map(|server| format!("127.0.0.1:{}", server.port())).join(",");
    let url = format!("postgresql://postgres@{hosts}/{}?target_session_attrs=standby", db.name);
    let exporter = Exporter::start(&url, &FLAGS).await;
    exporter.wait_for("one validation", |m| m.is_up() && m.validations() == 1.0).await;
    let client = connect(&first.url("postgres")).await.unwrap();
    client.query_one("SELECT pg_promote(true, 30)", &[]).await.unwrap();
    db.insert(Validation::completed(repo, "{}")).await;
    exporter.wait_for("the second validation", |m| m.is_up() && m.validations() == 2.0).await;
    assert_eq!([readers(&first).await, readers(&second).await], [0, 1]);
    let metrics = exporter.metrics().await;
    assert_eq!(metrics.sum("rsolv_exporter_poll_failures_total", &[]), 0.0, "{}", exporter.log());
    assert!(exporter.log().contains("left: it is no longer what target_session_attrs asks for"), "{}", exporter.log());
}

/// What the last of them says must not hide what the others do.
#[tokio::test]
async fn the_log_names_every_server_and_what_it_said() {
    let primary = Cluster::start(&[]).unwrap();
    let (db, standby) = pair(&primary, &[]).await;
    let (down, up) = (primary.port(), standby.port());
    primary.stop_fast().unwrap();
    let url = format!("postgresql://postgres@127.0.0.1:{down},127.0.0.1:{up}/{}?target_session_attrs=primary", db.name);
    let exporter = Exporter::start(&url, &FLAGS).await;
    exporter.wait_for("failures", |m| m.failures("connect") > 2.0).await;
    let log = exporter.log();
    for said in [
        format!("127.0.0.1:{down}: Connection refused (os error 111)"),
        format!("127.0.0.1:{up}: the server is a standby, and target_session_attrs wants a primary"),
    ] {
        assert_eq!(log.matches(&said).count(), 1, "{said}\n{log}");
    }
}

/// Nothing fails then: only the age of the snapshot tells.
#[tokio::test]
async fn a_standby_that_stops_replaying_shows_how_old_its_snapshot_is() {
    let primary = Cluster::start(&[]).unwrap();
    let (db, standby) = pair(&primary, &[]).await;
    let repo = db.repository("a/b").await;
    db.insert(Validation::completed(repo, "{}")).await;
    caught_up(&db).await;
    let age = |m: &Metrics| m.value("rsolv_exporter_snapshot_age_seconds", &[]).unwrap();
    let exporter = Exporter::start(&standby.url(&db.name), &FLAGS).await;
    exporter.wait_for("a standby that keeps up, without a commit for a while", |m| m.is_up() && age(m) == 0.0).await;
    let replica = connect(&standby.url("postgres")).await.unwrap();
    replica.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    db.insert(Validation::completed(repo, "{}")).await;
    let metrics = exporter.wait_for("a snapshot that gets older", |m| age(m) > 1.0).await;
    let older = age(&metrics) + 1.0;
    let metrics = exporter.wait_for("one that is still older", |m| age(m) > older).await;
    assert!(metrics.is_up() && metrics.validations() == 1.0, "nothing fails");
    replica.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
    exporter.wait_for("a snapshot that is new", |m| age(m) == 0.0 && m.validations() == 2.0).await;

    // Without its primary nobody knows what it lacks.
    primary.stop_immediate().unwrap();
    exporter.wait_for("a snapshot that gets older", |m| m.is_up() && age(m) > 1.0).await;
    replica.query_one("SELECT pg_promote(true, 30)", &[]).await.unwrap();
    exporter.wait_for("a primary", |m| m.is_up() && age(m) == 0.0).await;
}
