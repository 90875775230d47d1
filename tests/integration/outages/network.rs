//! The network swallows, delays or refuses.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::{FLAGS, Trial, slow_queries};
use crate::support::database::Database;
use crate::support::exporter::{self, Exporter};
use crate::support::hosts::Hosts;
use crate::support::metrics::Metrics;
use crate::support::proxy::{Fault, Proxy};

#[tokio::test]
async fn a_black_hole_in_the_middle_of_a_query() {
    let db = Database::new().await;
    let slow = slow_queries(&db).await;
    let flags = slow.flags();
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
    trial.exporter.wait_for("a line in the log", |_| trial.logged(refused) > 0).await;
    let before = trial.exporter.metrics().await.failures("connect");
    trial.exporter.wait_for("more failures", |m| m.failures("connect") > before + 3.0).await;
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
    assert_eq!(trial.exporter.metrics().await.failures("timeout"), 0.0);
}

#[tokio::test]
async fn a_server_that_hangs_is_noticed_at_the_first_answer_of_a_poll() {
    let db = Database::new().await;
    let proxy = Proxy::to(db.cluster().port());
    // Waiting for a statement would take longer than the test waits. The network fails between two polls.
    let flags = ["--poll.interval", "3s", "--database.statement-timeout", "10m", "--database.connect-timeout", "1s"];
    let exporter = Exporter::start(&db.url_through(proxy.port()), &flags).await;
    exporter.wait_for("a first poll", Metrics::is_up).await;
    proxy.set(Fault::BlackHole);
    exporter.wait_for("failures", |m| m.failures("timeout") > 1.0).await;
    proxy.set(Fault::None);
    exporter.wait_for("a new connection", Metrics::is_up).await;
    let log = exporter.log();
    assert!(log.contains("the server did not answer within 1s"), "{log}");
}

#[tokio::test]
async fn a_name_with_several_addresses_of_which_the_first_does_not_answer() {
    let db = Database::new().await;
    // The resolver puts 127.0.0.1 first: of all addresses it is nearest to itself.
    let dead = Proxy::to(db.cluster().port());
    let port = dead.port();
    let good = Proxy::at(SocketAddr::from(([127, 0, 0, 2], port)), db.cluster().port());
    dead.set(Fault::BlackHole);
    let hosts = Hosts::new(&[("127.0.0.1", "db.example"), ("127.0.0.2", "db.example")]);
    let url = db.url_through(port).replace("127.0.0.1", "db.example");

    let mut psql = hosts.command(Path::new("psql"));
    psql.args(["-X", "-c", "SELECT 1", &url]).env("PGCONNECT_TIMEOUT", "2");
    let psql = psql.output().expect("unshare, and psql from the package postgresql-client");
    assert!(psql.status.success(), "{}", String::from_utf8_lossy(&psql.stderr));
    let before = dead.connections().accepted;
    assert_eq!(before, 1, "psql asks them in this order");

    let flags = [&FLAGS[..], &["--database.url", &url, "--web.listen-address", "127.0.0.1:0"]].concat();
    let exporter = Exporter::launch_as(hosts.command(&exporter::program()), &flags, &[]).await.unwrap();
    exporter.wait_for("a connection to the second address", Metrics::is_up).await;
    assert_eq!(dead.connections().accepted, before + 1);
    let log = exporter.log();
    assert!(log.contains(&format!("server=\"db.example:{port} (127.0.0.2)\"")), "{log}");

    // Between two polls nobody notices, in one it is a failure.
    let made = good.connections().accepted;
    good.cut();
    exporter.wait_for("a new connection", |m| m.is_up() && good.connections().accepted > made).await;
    assert_eq!(dead.connections().accepted, before + 1, "the address that failed is asked last");

    good.set(Fault::Refuse);
    good.cut();
    let refused = "Connection refused (os error 111)";
    let all = format!(
        "{port} (127.0.0.1): no connection within 2s (database.connect_timeout); \
         db.example:{port} (127.0.0.2): {refused}"
    );
    // In whichever order they are asked.
    let count = |m: &Metrics| m.failures("connect") + m.failures("timeout");
    let first = count(&exporter.metrics().await);
    exporter.wait_for("failures", |m| count(m) > first + 3.0).await;
    assert_eq!(exporter.log().matches(&all).count(), 1, "{}", exporter.log());
}

/// A rotated file, a changed name, an old primary: what was right when the connection was made need not be so any more.
#[tokio::test]
async fn a_connection_is_left_at_its_largest_age_and_no_poll_fails() {
    let (db, directory) = (Database::new().await, tempfile::tempdir().unwrap());
    let (before, after) = (Proxy::to(db.cluster().port()), Proxy::to(db.cluster().port()));
    let file = directory.path().join("url");
    std::fs::write(&file, db.url_through(before.port())).unwrap();
    let own = ["--database.url-file", file.to_str().unwrap(), "--web.listen-address", "127.0.0.1:0"];
    let flags = [&FLAGS[..], &own, &["--database.max-lifetime", "1s"]].concat();
    let exporter = Exporter::launch(&flags, &[]).await.unwrap();
    exporter.wait_for("a second connection", |_| before.connections().accepted > 1).await;
    std::fs::write(&file, db.url_through(after.port())).unwrap();
    exporter.wait_for("a connection to the new address", |_| after.connections().accepted > 0).await;
    let metrics = exporter.wait_polls(2).await;
    assert!(metrics.is_up() && metrics.sum("rsolv_exporter_poll_failures_total", &[]) == 0.0, "{}", exporter.log());
    let log = exporter.log();
    assert_eq!(log.matches("the database is being read").count(), 2, "once for each server: {log}");
}
