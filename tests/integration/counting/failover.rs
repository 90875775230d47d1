//! Another server takes over, with and without losing what was counted.

use tokio_postgres::Client;

use crate::support::cluster::Cluster;
use crate::support::database::connect;
use crate::support::proxy::Proxy;
use crate::support::source::{EVENTS, SELECT, Source, TOML};

const MORE: &str = "INSERT INTO events (done) SELECT true FROM generate_series(1, ";

/// A primary with a standby, and a source that is read through a proxy.
struct Pair<'c> {
    source: Source<'c>,
    primary: &'c Cluster,
    standby: Cluster,
    replica: Client,
    proxy: Proxy,
}

impl<'c> Pair<'c> {
    async fn new(primary: &'c Cluster, setup: &[&str]) -> Self {
        let mut source = Source::on(primary, setup).await;
        let standby = primary.standby(&[]).expect("a standby");
        source.db.reconnect().await;
        let proxy = Proxy::to(primary.port());
        source.through(proxy.port());
        let replica = connect(&standby.socket_url(&source.db.name)).await.expect("a connection");
        Self { source, primary, standby, replica, proxy }
    }

    /// From here on the standby gets nothing.
    async fn cut_off(&self) {
        let caught_up = "EXISTS (SELECT FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_insert_lsn())";
        self.source.db.wait_until(caught_up).await;
        self.replica.batch_execute("ALTER SYSTEM SET primary_conninfo = ''").await.expect("a setting");
        self.replica.batch_execute("SELECT pg_reload_conf()").await.expect("a reload");
        self.source.db.wait_until("NOT EXISTS (SELECT FROM pg_stat_replication)").await;
    }

    /// The standby takes over; `sql` runs on it before the exporter can read it.
    async fn fail_over(&self, sql: &str) {
        self.primary.kill9().expect("a crash");
        self.replica.query_one("SELECT pg_promote(true, 30)", &[]).await.expect("a promotion");
        self.replica.batch_execute(sql).await.expect(sql);
        self.proxy.redirect(self.standby.port());
        self.proxy.cut();
    }

    async fn run(&self, sql: &str) {
        self.replica.batch_execute(sql).await.expect(sql);
    }
}

#[tokio::test]
async fn one_that_loses_what_was_counted_of_two_tables() {
    let primary = Cluster::start(&[]).expect("a server");
    let mut pair = Pair::new(&primary, &[EVENTS, &EVENTS.replace("events", "others")]).await;
    pair.source.define("others", &SELECT.replace("events", "others"), &TOML.replace("events", "others"));
    let others = MORE.replace("events", "others");
    pair.source.insert(50).await;
    pair.source.db.batch(&format!("{others}500)")).await;
    pair.cut_off().await;
    pair.source.start().await;
    pair.source.insert(100).await;
    pair.source.db.batch(&format!("{others}3)")).await;
    pair.source.counts(150).await;
    pair.source.counts_of("others", 503).await;
    pair.fail_over(&format!("{MORE}150); {others}2)")).await;
    pair.source.counts(300).await;
    pair.source.counts_of("others", 505).await;
    pair.run(&format!("{MORE}10); {others}10)")).await;
    pair.source.counts(310).await;
    pair.source.counts_of("others", 515).await;
}

#[tokio::test]
async fn one_that_loses_more_than_is_remembered() {
    let primary = Cluster::start(&[]).expect("a server");
    let mut pair = Pair::new(&primary, &[EVENTS]).await;
    pair.source.insert(2_000).await;
    pair.cut_off().await;
    pair.source.start().await;
    pair.source.insert(3_000).await;
    pair.source.counts(5_000).await;
    pair.fail_over(&format!("{MORE}4000)")).await;
    pair.source.counts(9_000).await;
    pair.run(&format!("{MORE}10)")).await;
    pair.source.counts(9_010).await;
}

#[tokio::test]
async fn one_that_loses_nothing_but_burnt_ids() {
    let primary = Cluster::start(&[]).expect("a server");
    let table = EVENTS.replace("clock_timestamp()", "clock_timestamp() + interval '2 seconds'");
    let mut pair = Pair::new(&primary, &[&table]).await;
    pair.source.insert(100).await;
    pair.cut_off().await;
    pair.source.start().await;
    pair.source.counts(100).await;
    pair.source.db.batch("SELECT nextval('events_id_seq') FROM generate_series(1, 80)").await;
    pair.source.polls().await;
    pair.fail_over("SELECT setval('events_id_seq', 100)").await;
    pair.source.counts(100).await;
    pair.run(&format!("{MORE}47)")).await;
    pair.source.counts(147).await;
    pair.run(&format!("{MORE}47)")).await;
    pair.source.counts(194).await;
}

#[tokio::test]
async fn one_that_loses_one_commit() {
    let primary = Cluster::start(&[]).expect("a server");
    let mut pair = Pair::new(&primary, &[EVENTS]).await;
    pair.source.insert(10).await;
    pair.cut_off().await;
    pair.source.start().await;
    pair.source.insert(1).await;
    pair.source.counts(11).await;
    // Its id comes again at once.
    pair.fail_over(&format!("SELECT setval('events_id_seq', 10); {MORE}1)")).await;
    pair.source.counts(12).await;
    pair.run(&format!("{MORE}1)")).await;
    pair.source.counts(13).await;
}

#[tokio::test]
async fn one_that_loses_one_commit_while_nobody_writes() {
    let primary = Cluster::start(&[]).expect("a server");
    let mut pair = Pair::new(&primary, &[EVENTS]).await;
    pair.source.insert(10).await;
    pair.source.db.batch("INSERT INTO events (done) VALUES (false)").await;
    pair.cut_off().await;
    pair.source.start().await;
    pair.source.db.batch("UPDATE events SET done = true").await;
    pair.source.insert(1).await;
    pair.source.counts(12).await;
    pair.fail_over("SELECT 1").await;
    pair.source.counts(12).await;
    // The row that had finished is open again, and finishes once more: it has been counted.
    pair.run("UPDATE events SET done = true WHERE NOT done").await;
    pair.source.counts(12).await;
    pair.run(&format!("SELECT setval('events_id_seq', 11); {MORE}5)")).await;
    pair.source.counts(17).await;
}

#[tokio::test]
async fn a_standby_that_lacks_one_commit() {
    let primary = Cluster::start(&[]).expect("a server");
    let mut pair = Pair::new(&primary, &[EVENTS]).await;
    pair.source.insert(10).await;
    pair.cut_off().await;
    pair.source.start().await;
    pair.source.insert(1).await;
    pair.source.counts(11).await;
    pair.proxy.redirect(pair.standby.port());
    pair.proxy.cut();
    pair.source.exporter().wait_for("a failure with reason behind", |m| m.failures("behind") > 0.0).await;
    let primary =
        format!("ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port={} user=postgres'", pair.primary.port());
    pair.run(&primary).await;
    pair.run("SELECT pg_reload_conf()").await;
    pair.source.counts(11).await;
    pair.source.insert(5).await;
    pair.source.counts(16).await;
}
