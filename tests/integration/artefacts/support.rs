//! The harness itself: what other tests stand on.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio_postgres::Client;

use crate::support::cluster::Cluster;
use crate::support::database::{Database, connect};
use crate::support::execution::{Mitigation, Validation};
use crate::support::http;
use crate::support::metrics::Metrics;
use crate::support::prometheus::Prometheus;
use crate::support::proxy::{Connections, Fault, Proxy};

#[tokio::test]
async fn a_database_has_the_platforms_tables() {
    let db = Database::new().await;
    let repo = db.repository("RSOLV-dev/demo").await;
    assert_eq!(db.repository("RSOLV-dev/demo").await, repo);
    let took = Duration::from_millis(1500);
    let row = Validation::completed(repo, json!({"language": "it's \\ \"quoted\""})).took(took);
    let id = db.insert(row).await;
    db.insert(Validation::open(repo, "running", "{}")).await;
    let row = Mitigation { pr_number: Some(42), ..Mitigation::completed(repo, "{\"n\": 1e400}") };
    db.insert(row).await;

    let language = format!("SELECT data->>'language' FROM validation_executions WHERE id = {id}");
    assert_eq!(db.value(&language).await, "it's \\ \"quoted\"");
    let took = format!("SELECT completed_at - started_at FROM validation_executions WHERE id = {id}");
    assert_eq!(db.value(&took).await, "00:00:01.5");
    let open = "SELECT completed_at FROM validation_executions WHERE status = 'running'";
    assert_eq!(db.value(open).await, "NULL");
    assert_eq!(db.value("SELECT pr_number FROM mitigation_executions").await, "42");
}

#[tokio::test]
async fn databases_are_separate_and_dropped() {
    let first = Database::new().await;
    let second = Database::new().await;
    first.repository("a/b").await;
    assert_eq!(second.value("SELECT count(*) FROM repositories").await, "0");
    let exists = format!("SELECT count(*) FROM pg_database WHERE datname = '{}'", first.name);
    assert_eq!(second.value(&exists).await, "1");
    drop(first);
    assert_eq!(second.value(&exists).await, "0");
}

#[tokio::test]
async fn a_cluster_takes_settings_and_leaves_nothing() {
    let cluster = Cluster::start(&[("max_connections", "7")]).unwrap();
    let client = connect(&cluster.url("postgres")).await.unwrap();
    let row = client.query_one("SHOW max_connections", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "7");
    let directory = cluster.directory().to_owned();
    assert!(directory.exists());
    drop(cluster);
    assert!(!directory.exists());
}

#[tokio::test]
async fn a_cluster_comes_back_with_its_data() {
    let cluster = Cluster::start(&[]).unwrap();
    let mut db = Database::on(&cluster).await;
    db.repository("a/b").await;
    let port = cluster.port();
    let stops: [fn(&Cluster) -> _; 3] = [Cluster::stop_fast, Cluster::stop_immediate, Cluster::kill9];
    for stop in stops {
        stop(&cluster).unwrap();
        connect(&db.url()).await.expect_err("nobody listens");
        cluster.start_again().unwrap();
        db.reconnect().await;
        assert_eq!(db.value("SELECT count(*) FROM repositories").await, "1");
    }
    assert_eq!(cluster.port(), port);
}

#[tokio::test]
async fn a_paused_server_answers_nobody_until_it_resumes() {
    let cluster = Cluster::start(&[]).unwrap();
    let client = connect(&cluster.url("postgres")).await.unwrap();
    cluster.pause();
    assert!(times_out(client.query_one("SELECT 1", &[])).await);
    assert!(times_out(connect(&cluster.url("postgres"))).await);
    cluster.resume();
    client.query_one("SELECT 1", &[]).await.unwrap();
}

#[tokio::test]
async fn a_paused_server_can_be_removed() {
    let cluster = Cluster::start(&[]).unwrap();
    let _client = connect(&cluster.url("postgres")).await.unwrap();
    cluster.pause();
    let directory = cluster.directory().to_owned();
    drop(cluster);
    assert!(!directory.exists());
}

#[test]
fn a_cluster_that_cannot_start_says_why() {
    let error = Cluster::start(&[("shared_buffers", "none")]).err().expect("an error");
    assert!(error.to_string().contains("invalid value for parameter \"shared_buffers\""), "{error}");
}

#[tokio::test]
async fn a_proxy_passes_delays_and_drips() {
    let db = Database::new().await;
    let proxy = Proxy::to(db.cluster().port());
    let client = connect(&db.url_through(proxy.port())).await.unwrap();
    assert_eq!(select_one(&client).await, Ok(1));

    let delay = Duration::from_millis(60);
    proxy.set(Fault::Delay(delay));
    let start = Instant::now();
    assert_eq!(select_one(&client).await, Ok(1));
    assert!(start.elapsed() >= 2 * delay, "{:?}", start.elapsed());

    // The row description alone is more than 20 bytes.
    proxy.set(Fault::Drip(10, Duration::from_millis(10)));
    let start = Instant::now();
    assert_eq!(select_one(&client).await, Ok(1));
    assert!(start.elapsed() >= Duration::from_millis(50), "{:?}", start.elapsed());

    proxy.set(Fault::None);
    assert_eq!(select_one(&client).await, Ok(1));
    assert_eq!(proxy.connections(), Connections { open: 1, peak: 1, accepted: 1 });
}

/// Starts programs all the time, as other tests do: until it runs its program,
/// a child has copies of all sockets, those that are closed here included.
struct Spawning {
    go_on: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Spawning {
    fn start() -> Self {
        let go_on = Arc::new(AtomicBool::new(true));
        let flag = Arc::clone(&go_on);
        let thread = thread::spawn(move || {
            while flag.load(Ordering::Relaxed) {
                Command::new("true").status().expect("true runs");
            }
        });
        Self { go_on, thread: Some(thread) }
    }
}

impl Drop for Spawning {
    fn drop(&mut self) {
        self.go_on.store(false, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed; a second one would abort the test.
            let _ = thread.join();
        }
    }
}

#[tokio::test]
async fn a_proxy_swallows_resets_and_refuses() {
    let db = Database::new().await;
    let proxy = Proxy::to(db.cluster().port());
    let url = db.url_through(proxy.port());

    let client = connect(&url).await.unwrap();
    proxy.set(Fault::BlackHole);
    assert!(times_out(select_one(&client)).await);
    assert!(times_out(connect(&url)).await);
    proxy.set(Fault::None);
    assert!(times_out(select_one(&client)).await, "a connection that lost bytes stays dead");

    let client = connect(&url).await.unwrap();
    let spawning = Spawning::start();
    for _ in 0..100 {
        proxy.set(Fault::Refuse);
        let error = connect(&url).await.expect_err("nobody listens").to_string();
        assert!(error.contains("Connection refused"), "{error}");
        proxy.set(Fault::None);
    }
    drop(spawning);
    proxy.set(Fault::Refuse);
    assert_eq!(select_one(&client).await, Ok(1), "an open connection lives on");
    proxy.cut();
    select_one(&client).await.expect_err("cut");

    proxy.set(Fault::None);
    let client = connect(&url).await.unwrap();
    proxy.set(Fault::Reset);
    select_one(&client).await.expect_err("reset");
    let error = connect(&url).await.expect_err("reset").to_string();
    assert!(error.contains("reset"), "{error}");

    proxy.set(Fault::None);
    let client = connect(&url).await.unwrap();
    assert_eq!(select_one(&client).await, Ok(1));
}

#[tokio::test]
async fn a_proxy_reports_a_server_that_is_down_as_a_reset() {
    let cluster = Cluster::start(&[]).unwrap();
    let proxy = Proxy::to(cluster.port());
    cluster.kill9().unwrap();
    let url = format!("postgresql://postgres@127.0.0.1:{}/postgres", proxy.port());
    connect(&url).await.expect_err("nobody behind the proxy");
    cluster.start_again().unwrap();
    let client = connect(&url).await.unwrap();
    assert_eq!(select_one(&client).await, Ok(1));
}

#[test]
fn an_exposition_is_read() {
    let text = "# HELP a b\n# TYPE a counter\na 1\nb{x=\"1\",y=\"q\\\"\\\\\\n,}\"} +Inf 17\nb{x=\"2\",} 3\n";
    let metrics = Metrics::parse(text);
    assert_eq!(metrics.value("a", &[]), Some(1.0));
    assert_eq!(metrics.value("b", &[("x", "1"), ("y", "q\"\\\n,}")]), Some(f64::INFINITY));
    assert_eq!(metrics.value("b", &[("x", "2")]), Some(3.0));
    assert_eq!(metrics.value("b", &[("x", "3")]), None);
    assert_eq!(metrics.sum("b", &[("y", "")]), 0.0);
    assert_eq!(metrics.series()["b{x=\"2\"}"], 3.0);
}

#[tokio::test]
async fn prometheus_scrapes_and_answers() {
    // It can scrape itself, which needs nothing else.
    let config = "global: {scrape_interval: 1s}";
    let prometheus = Prometheus::start(config, &[]).await.unwrap();
    assert_eq!(prometheus.query("1 + 1").await[0].1, 2.0);
    let target = Prometheus::scraping(&prometheus.address).await;
    target.wait_up("rsolv-exporter").await;
    let up = target.samples("up[5m]").await;
    assert_eq!(up[0].0["job"], "rsolv-exporter");
    let (time, _) = up[0].1[0];
    let range = target.query_range("up", (time, time + 1.0), 1.0).await;
    assert!(!range.is_empty());
    assert_eq!(http::get(&target.address, "/nowhere").await.unwrap().status, 404);
}

#[tokio::test]
async fn prometheus_with_a_bad_configuration_says_why() {
    let error = Prometheus::start("nonsense: 1", &[]).await.err().expect("an error").to_string();
    assert!(error.contains("nonsense"), "{error}");
}

/// The answer to `SELECT 1`, or the text of the error.
async fn select_one(client: &Client) -> Result<i32, String> {
    let row = client.query_one("SELECT 1", &[]).await.map_err(|error| error.to_string())?;
    Ok(row.get(0))
}

/// Whether nothing comes of it in a time in which an answer is certain to come
/// when the network works.
async fn times_out<T>(attempt: impl Future<Output = T>) -> bool {
    tokio::time::timeout(Duration::from_millis(300), attempt).await.is_err()
}
