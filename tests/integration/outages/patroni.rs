//! Patroni moves the primary, while executions are written.

use std::process::{Child, Stdio};
use std::time::Duration;

use tokio::sync::watch;

use super::FLAGS;
use crate::support::database::{add_repository, connect};
use crate::support::execution::Validation;
use crate::support::exporter::Exporter;
use crate::support::metrics::Metrics;
use crate::support::patroni::Patroni;
use crate::support::pgbouncer::{PASSWORD, PgBouncer};
use crate::support::ports::free_port;
use crate::support::process;

/// By every way of the documentation: all members and the primary, all members and a standby, HAProxy, PgBouncer before it.
#[tokio::test]
async fn a_switchover_and_a_failover_with_writers() {
    if std::env::var_os("RSOLV_TEST_PG_BIN").is_some() {
        // Debian's Patroni is made for Debian's PostgreSQL.
        return;
    }
    let cluster = Patroni::start().await.unwrap();
    let url = |more: &str| format!("postgresql://postgres@{}/postgres?target_session_attrs={more}", cluster.hosts());
    let client = connect(&url("read-write")).await.unwrap();
    client.batch_execute(include_str!("../../support/schema.sql")).await.unwrap();
    let repo = add_repository(&client, "a/b").await.unwrap();
    drop(client);
    let balancer = Balancer::to(&cluster);
    let by_balancer =
        format!("postgresql://postgres@127.0.0.1:{}/postgres?target_session_attrs=primary", balancer.port);
    // As deploy/connecting.md says: else it would wait for 15 seconds before it asks HAProxy again.
    let pooler = PgBouncer::with(balancer.port, "pool_mode = transaction\nserver_login_retry = 1").unwrap();
    let by_pooler = format!("postgresql://postgres:{PASSWORD}@127.0.0.1:{}/postgres", pooler.port());
    let mut exporters = Vec::new();
    for url in [url("primary"), url("prefer-standby"), by_balancer, by_pooler] {
        exporters.push(Exporter::start(&url, &FLAGS).await);
    }
    let (stop, stopped) = watch::channel(false);
    let writing = tokio::spawn(write(url("read-write"), repo, stopped));
    for exporter in &exporters {
        exporter.wait_for("the first validations", |m| m.is_up() && m.validations() > 0.0).await;
    }
    cluster.switch_over().await.unwrap();
    for exporter in &exporters {
        let before = exporter.wait_for("a poll", Metrics::is_up).await.validations();
        exporter.wait_for("validations after the switchover", |m| m.is_up() && m.validations() > before).await;
    }
    cluster.fail_over().await.unwrap();
    for exporter in &exporters {
        let before = exporter.wait_for("a poll", Metrics::is_up).await.validations();
        exporter.wait_for("validations after the failover", |m| m.is_up() && m.validations() > before).await;
    }
    stop.send(true).unwrap();
    let acknowledged = writing.await.unwrap();
    let client = connect(&url("read-write")).await.unwrap();
    let rows: i64 = client.query_one("SELECT count(*) FROM validation_executions", &[]).await.unwrap().get(0);
    assert!(acknowledged > 0 && rows >= acknowledged, "{rows} of {acknowledged}: the cluster has lost commits");
    for exporter in &exporters {
        let all = |m: &Metrics| m.is_up() && m.validations() == rows as f64;
        exporter.wait_for(&format!("{rows} validations\n{}", exporter.log()), all).await;
        let metrics = exporter.wait_polls(2).await;
        assert_eq!(metrics.validations(), rows as f64, "counted twice: {}", exporter.log());
    }
}

/// Inserts validations until told to stop, through whichever member takes them; returns how many were acknowledged.
async fn write(url: String, repo: i64, stopped: watch::Receiver<bool>) -> i64 {
    let mut acknowledged = 0;
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    while !*stopped.borrow() {
        let Ok(Ok(client)) = tokio::time::timeout(Duration::from_secs(2), connect(&url)).await else {
            pace.tick().await;
            continue;
        };
        let insert = String::from(Validation::completed(repo, "{}"));
        while !*stopped.borrow() {
            pace.tick().await;
            match tokio::time::timeout(Duration::from_secs(2), client.batch_execute(&insert)).await {
                Ok(Ok(())) => acknowledged += 1,
                _ => break,
            }
        }
    }
    acknowledged
}

/// HAProxy with the listener of the documentation.
struct Balancer {
    child: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Balancer {
    fn to(cluster: &Patroni) -> Self {
        let (port, directory) = (free_port(), tempfile::tempdir().unwrap());
        let text = include_str!("../../../deploy/connecting.md");
        let listener = text.lines().skip_while(|line| !line.starts_with("    listen ")).take_while(|l| !l.is_empty());
        let mut listener = listener.collect::<Vec<_>>().join("\n").replace("*:5000", &format!("127.0.0.1:{port}"));
        for (i, (server, api)) in cluster.ports().into_iter().enumerate() {
            let node = format!("node{} node{0}:5432 maxconn 100 check port 8008", i + 1);
            assert!(listener.contains(&node), "{node}: {listener}");
            listener =
                listener.replace(&node, &format!("node{} 127.0.0.1:{server} maxconn 100 check port {api}", i + 1));
        }
        let defaults = "defaults\n  mode tcp\n  timeout connect 2s\n  timeout client 1m\n  timeout server 1m\n  timeout check 2s\n";
        let file = directory.path().join("haproxy.cfg");
        std::fs::write(&file, format!("{defaults}{listener}\n")).unwrap();
        let path =
            ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"].into_iter().find(|path| std::fs::exists(path).unwrap());
        let mut command = std::process::Command::new(path.unwrap_or("haproxy"));
        command.arg("-db").arg("-f").arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = process::spawn(command, libc::SIGKILL).expect("haproxy; tests/setup.sh patroni installs it");
        Self { child, port, _directory: directory }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
