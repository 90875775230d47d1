//! Tables, databases and servers that are restored, in pieces and as a whole.

use std::process::Command;

use crate::support::cluster::Cluster;
use crate::support::database::{Database, connect};
use crate::support::proxy::Proxy;
use crate::support::source::{EVENTS, Source};

/// What a dump holds.
const DUMP: &str = "CREATE TABLE dump AS SELECT * FROM events";

#[tokio::test]
async fn a_dump_restored_into_the_same_database_while_polls_go_on() {
    let source = Source::counted(200_000).await;
    source.db.batch(DUMP).await;
    source.db.batch("DROP TABLE events").await;
    source.polls().await;
    source.db.batch(&EVENTS.replace("PRIMARY KEY", "")).await;
    source.polls().await;
    source.db.batch("INSERT INTO events SELECT * FROM dump ORDER BY id").await;
    source.polls().await;
    source.db.batch("SELECT setval('events_id_seq', 200000)").await;
    source.polls().await;
    source.db.batch("ALTER TABLE events ADD PRIMARY KEY (id)").await;
    source.counts(200_000).await;
    source.insert(10).await;
    source.counts(200_010).await;
}

#[tokio::test]
async fn a_dump_restored_in_pieces() {
    let source = Source::counted(30_000).await;
    source.db.batch(DUMP).await;
    source.db.batch("DROP TABLE events").await;
    source.polls().await;
    source.db.batch(EVENTS).await;
    for piece in [2, 0, 1] {
        source.db.batch(&format!("INSERT INTO events SELECT * FROM dump WHERE id % 3 = {piece}")).await;
        source.polls().await;
    }
    source.db.batch("SELECT setval('events_id_seq', 30000)").await;
    source.counts(30_000).await;
    source.insert(10).await;
    source.counts(30_010).await;
}

#[tokio::test]
async fn an_old_dump_restored_and_gone_on_from() {
    for polls_between in [false, true] {
        let source = Source::counted(60).await;
        source.db.batch(DUMP).await;
        source.insert(40).await;
        source.counts(100).await;
        let steps = [
            "DROP TABLE events",
            EVENTS,
            "INSERT INTO events SELECT * FROM dump",
            "SELECT setval('events_id_seq', 60)",
        ];
        for step in steps {
            source.db.batch(step).await;
            if polls_between {
                source.polls().await;
            }
        }
        source.insert(70).await;
        source.counts(170).await;
        source.insert(10).await;
        source.counts(180).await;
    }
}

/// Drops the database and creates it as a copy of another one.
async fn restore_database(db: &mut Database<'_>, from: &str) {
    let admin = connect(&db.cluster().socket_url("postgres")).await.expect("a connection");
    for sql in
        [format!("DROP DATABASE {} WITH (FORCE)", db.name), format!("CREATE DATABASE {} TEMPLATE {from}", db.name)]
    {
        admin.batch_execute(&sql).await.expect(&sql);
    }
    db.reconnect().await;
}

#[tokio::test]
async fn a_database_dropped_and_created_again() {
    let mut source = Source::new(&[EVENTS]).await;
    source.insert(60).await;
    let (name, saved) = (source.db.name.clone(), format!("{}_saved", source.db.name));
    let admin = connect(&source.db.cluster().socket_url("postgres")).await.expect("a connection");
    // A database that is copied may have no session.
    let end = format!("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{name}'");
    admin.batch_execute(&end).await.expect("no session");
    admin.batch_execute(&format!("CREATE DATABASE {saved} TEMPLATE {name}")).await.expect("a copy");
    source.db.reconnect().await;
    source.start().await;
    source.counts(60).await;
    // Nothing was lost.
    restore_database(&mut source.db, &saved).await;
    source.counts(60).await;
    source.insert(40).await;
    source.counts(100).await;
    // Forty rows were, and their ids come again.
    restore_database(&mut source.db, &saved).await;
    source.insert(50).await;
    source.counts(150).await;
    source.stop().await;
    restore_database(&mut source.db, &saved).await;
    source.insert(80).await;
    source.start().await;
    source.counts(230).await;
    admin.batch_execute(&format!("DROP DATABASE {saved}")).await.expect("tidiness");
}

/// Copies a folder, with owners and permissions.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).expect("no folder");
    }
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp").success());
}

#[tokio::test]
async fn files_restored_from_a_snapshot() {
    let cluster = Cluster::start(&[]).expect("a server");
    let mut source = Source::on(&cluster, &[EVENTS]).await;
    source.insert(60).await;
    cluster.stop_fast().expect("a stop");
    let snapshot = cluster.directory().join("snapshot");
    copy(&cluster.data(), &snapshot);
    cluster.start_again().expect("a start");
    source.db.reconnect().await;
    source.insert(30).await;
    source.start().await;
    source.counts(90).await;
    let mut total = 90;
    // Fewer new ones than were lost, as many, and more.
    for rows in [20, 30, 60] {
        source.stop().await;
        cluster.stop_fast().expect("a stop");
        copy(&snapshot, &cluster.data());
        cluster.start_again().expect("a start");
        source.db.reconnect().await;
        source.insert(rows).await;
        source.start().await;
        total += rows;
        source.counts(total).await;
    }
}

#[tokio::test]
async fn another_server_with_the_rows_that_had_not_been_deleted() {
    let mut source = Source::new(&[EVENTS]).await;
    let proxy = Proxy::to(source.db.cluster().port());
    source.through(proxy.port());
    source.insert(100).await;
    source.start().await;
    source.counts(100).await;
    source.db.batch("DELETE FROM events WHERE id % 5 <> 0 AND id <= 75").await;
    source.polls().await;
    let rows = "SELECT string_agg(format('(%s, %L, %L, %L)', id, done, at, kind), ',') FROM events";
    let rows = source.db.value(rows).await;
    let upgraded = Cluster::start(&[]).expect("a server");
    let admin = connect(&upgraded.socket_url("postgres")).await.expect("a connection");
    admin.batch_execute(&format!("CREATE DATABASE {}", source.db.name)).await.expect("a database");
    let client = connect(&upgraded.socket_url(&source.db.name)).await.expect("a connection");
    let sql = format!("{EVENTS}; INSERT INTO events VALUES {rows}; SELECT setval('events_id_seq', 100)");
    client.batch_execute(&sql).await.expect("the rows");
    client.batch_execute("INSERT INTO events (done) SELECT true FROM generate_series(1, 6)").await.expect("six more");
    proxy.redirect(upgraded.port());
    proxy.cut();
    source.counts(106).await;
    client.batch_execute("INSERT INTO events (done) SELECT true FROM generate_series(1, 6)").await.expect("six more");
    source.counts(112).await;
}

#[tokio::test]
async fn another_server_after_all_rows_were_deleted() {
    let mut source = Source::new(&[EVENTS]).await;
    let proxy = Proxy::to(source.db.cluster().port());
    source.through(proxy.port());
    source.insert(100).await;
    source.start().await;
    source.counts(100).await;
    source.db.batch("DELETE FROM events").await;
    source.polls().await;
    let upgraded = Cluster::start(&[]).expect("a server");
    let mut there = Source::on(&upgraded, &[EVENTS, "SELECT setval('events_id_seq', 100)"]).await;
    // The same database on the new server.
    let admin = connect(&upgraded.socket_url("template1")).await.expect("a connection");
    let end =
        format!("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{}'", there.db.name);
    admin.batch_execute(&end).await.expect("no session");
    admin
        .batch_execute(&format!("ALTER DATABASE {} RENAME TO {}", there.db.name, source.db.name))
        .await
        .expect("its name");
    there.db.name = source.db.name.clone();
    there.db.reconnect().await;
    proxy.redirect(upgraded.port());
    proxy.cut();
    source.counts(100).await;
    there.insert(6).await;
    source.counts(106).await;
}
