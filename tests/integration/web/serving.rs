//! What the exporter answers over HTTP, and what it does while the database is away, hangs or refuses.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::execution::{Mitigation, Validation};
use crate::support::exporter::Exporter;
use crate::support::metrics::Metrics;
use crate::support::process;

/// Polls often, and shows new series at once.
const QUICK: [&str; 4] = ["--poll.interval", "100ms", "--series.birth-hold", "0s"];

fn validations(metrics: &Metrics) -> Option<f64> {
    metrics.value("rsolv_validation_executions_total", &[("status", "completed")])
}

fn source_up(metrics: &Metrics, source: &str) -> f64 {
    metrics.sum("rsolv_exporter_source_up", &[("source", source)])
}

async fn insert_validation(db: &Database<'_>) {
    let repo = db.repository("a/b").await;
    db.insert(Validation::completed(repo, "{}")).await;
}

async fn insert_mitigation(db: &Database<'_>) {
    let repo = db.repository("a/b").await;
    db.insert(Mitigation::completed(repo, "{}")).await;
}

#[tokio::test]
async fn endpoints() {
    let db = Database::new().await;
    insert_validation(&db).await;
    let exporter = Exporter::start(&db.url(), &[]).await;
    exporter.wait_for("a poll", Metrics::is_up).await;

    let root = exporter.get("/").await;
    assert_eq!((root.status, root.header("content-type")), (200, "text/html; charset=utf-8"));
    for link in ["/metrics", "/-/healthy", "/-/ready"] {
        assert!(root.text().contains(&format!("href=\"{link}\"")), "{}", root.text());
        assert_eq!(exporter.get(link).await.status, 200, "{link}");
    }
    let metrics = exporter.get("/metrics?collect[]=anything").await;
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");

    for path in ["/metrics/", "/nowhere", "/-/", "//metrics", "/favicon.ico"] {
        let response = exporter.get(path).await;
        assert_eq!((response.status, response.text().contains("/metrics")), (404, true), "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let response = exporter.request(method, "/metrics", &[]).await;
        assert_eq!((response.status, response.header("allow")), (405, "GET, HEAD"), "{method}");
    }
}

#[tokio::test]
async fn head_answers_like_get_without_the_body() {
    let db = Database::new().await;
    let exporter = Exporter::start(&db.url(), &[]).await;
    exporter.wait_for("a poll", Metrics::is_up).await;
    for path in ["/", "/-/healthy", "/-/ready", "/metrics", "/nowhere"] {
        let (get, head) = (exporter.get(path).await, exporter.request("HEAD", path, &[]).await);
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
        // The exporter's own numbers and the ages on the page have changed in between, and the clock may have.
        let changes = ["/", "/metrics"].contains(&path);
        let steady = |name: &&str| *name != "date" && !(*name == "content-length" && changes);
        let names = |headers: &hyper::HeaderMap| headers.keys().map(|k| k.as_str().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&get.headers), names(&head.headers), "{path}");
        for name in names(&get.headers).iter().map(String::as_str).filter(steady) {
            assert_eq!(get.header(name), head.header(name), "{path}: {name}");
        }
    }
}

#[tokio::test]
async fn what_is_counted_and_what_is_said_of_it_are_of_one_moment() {
    let db = Database::new().await;
    insert_validation(&db).await;
    let exporter = Exporter::start(&db.url(), &["--poll.interval", "20ms"]).await;
    exporter.wait_for("a poll", Metrics::is_up).await;
    let one = "INSERT INTO validation_executions (repository_id, issue_number, commit_sha, status, data, started_at,
                 completed_at, inserted_at, updated_at)
               SELECT repository_id, issue_number, commit_sha, status, data, now(), now(), now(), now()
               FROM validation_executions ORDER BY id LIMIT 1";
    for _ in 0..500 {
        let (metrics, ()) = tokio::join!(exporter.metrics(), db.batch(one));
        let counted = metrics.sum("rsolv_exporter_rows_counted_total", &[("source", "validation_executions")]);
        assert_eq!(validations(&metrics), Some(counted));
    }
}

#[tokio::test]
async fn the_first_poll_is_made_at_once() {
    let db = Database::new().await;
    insert_validation(&db).await;
    let flags = ["--poll.interval", "1h", "--poll.stale-after", "2h"];
    let exporter = Exporter::start(&db.url(), &flags).await;
    let metrics = exporter.wait_for("the first poll", Metrics::is_up).await;
    assert_eq!(validations(&metrics), Some(1.0));
    assert_eq!(metrics.value("rsolv_exporter_polls_total", &[]), Some(1.0));
}

#[tokio::test]
async fn data_is_withdrawn_when_stale_and_comes_back_by_itself() {
    let cluster = Cluster::start(&[]).unwrap();
    let mut db = Database::on(&cluster).await;
    insert_validation(&db).await;
    cluster.stop_fast().unwrap();

    let flags = [&QUICK[..], &["--poll.stale-after", "5s"]].concat();
    let exporter = Exporter::start(&db.url(), &flags).await;
    let ready = exporter.get("/-/ready").await;
    assert_eq!(
        (ready.status, ready.text().as_str()),
        (503, "not ready: nothing has been read from the database yet\n")
    );
    assert_eq!(exporter.get("/-/healthy").await.status, 200);
    let metrics = exporter.wait_for("a failed poll", |metrics| metrics.failures("connect") > 0.0).await;
    assert_eq!((metrics.is_up(), validations(&metrics)), (false, None));

    cluster.start_again().unwrap();
    let metrics = exporter.wait_for("the database's return", Metrics::is_up).await;
    assert_eq!(validations(&metrics), Some(1.0));
    assert_eq!(exporter.get("/-/ready").await.status, 200);
    db.reconnect().await;
    insert_validation(&db).await;
    exporter.wait_for("the second row", |metrics| validations(metrics) == Some(2.0)).await;

    cluster.stop_immediate().unwrap();
    // Shown for a while, as what it is: the last that is known.
    let metrics = exporter.wait_for("the failure", |metrics| !metrics.is_up()).await;
    assert_eq!(validations(&metrics), Some(2.0));
    let metrics = exporter.wait_for("the withdrawal", |metrics| validations(metrics).is_none()).await;
    let left: Vec<_> = metrics
        .samples
        .iter()
        .filter(|s| s.name.starts_with("rsolv_") && !s.name.starts_with("rsolv_exporter_"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!metrics.is_up());
    let ready = exporter.get("/-/ready").await;
    assert_eq!((ready.status, ready.text().starts_with("not ready: the data is stale")), (503, true));

    cluster.start_again().unwrap();
    let metrics = exporter.wait_for("the second return", Metrics::is_up).await;
    assert_eq!(validations(&metrics), Some(2.0), "neither lost nor counted again");
    let said = exporter.log().matches("the database cannot be read").count();
    assert!(said <= 6, "once per change and not once per poll:\n{}", exporter.log());
}

/// Waits until the poll under way has waited for its answer for several times the interval.
async fn hangs(exporter: &Exporter) {
    let (mut polls, mut since) = (0.0, Instant::now());
    while since.elapsed() < Duration::from_millis(500) {
        let begun = exporter.metrics().await.sum("rsolv_exporter_polls_total", &[]);
        if begun != polls {
            (polls, since) = (begun, Instant::now());
        }
        tokio::time::sleep(process::TICK).await;
    }
}

/// A database that hangs is waited for longer than tests wait for anything.
const FOREVER: [&str; 4] = ["--database.connect-timeout", "1h", "--database.statement-timeout", "1h"];

#[tokio::test]
async fn it_ends_when_told_to_also_while_the_database_hangs() {
    let cluster = Cluster::start(&[]).unwrap();
    let db = Database::on(&cluster).await;
    for (signal, hung) in [(libc::SIGTERM, false), (libc::SIGINT, false), (libc::SIGTERM, true), (libc::SIGINT, true)] {
        let mut exporter = Exporter::start(&db.url(), &[QUICK, FOREVER].concat()).await;
        exporter.wait_for("a poll", Metrics::is_up).await;
        // One that never sends a request must not hold the end up.
        let mut idle = TcpStream::connect(&exporter.address).await.unwrap();
        if hung {
            cluster.pause();
            hangs(&exporter).await;
        }
        let status = exporter.end_by(signal).await;
        let log = exporter.log();
        assert!(status.success(), "signal {signal}, {hung}: {status:?}\n{log}");
        assert!(!log.contains("did not take their responses in time"), "{log}");
        assert_eq!(idle.read(&mut [0]).await.unwrap_or(0), 0);
        cluster.resume();
    }
}

/// That there are answers shows that none of them waits for the database.
#[tokio::test]
async fn whatever_is_asked_is_answered_while_the_database_hangs() {
    let cluster = Cluster::start(&[]).unwrap();
    let db = Database::on(&cluster).await;
    insert_validation(&db).await;
    let exporter = Exporter::start(&db.url(), &[QUICK, FOREVER].concat()).await;
    exporter.wait_for("a poll", Metrics::is_up).await;
    cluster.pause();
    hangs(&exporter).await;
    // In the middle of a poll, and of a connection that is never answered.
    let connecting = Exporter::start(&db.url(), &[QUICK, FOREVER].concat()).await;
    for path in ["/metrics", "/", "/-/healthy", "/-/ready"].repeat(25) {
        assert_eq!(exporter.get(path).await.status, 200, "{path}");
        assert_eq!(connecting.get(path).await.status, if path == "/-/ready" { 503 } else { 200 }, "{path}");
    }
    assert_eq!(validations(&exporter.metrics().await), Some(1.0));
    cluster.resume();
    insert_validation(&db).await;
    for exporter in [exporter, connecting] {
        exporter.wait_for("the next row", |metrics| validations(metrics) == Some(2.0)).await;
    }
}

#[tokio::test]
async fn one_source_that_fails_hides_no_other() {
    let db = Database::new().await;
    insert_validation(&db).await;
    insert_mitigation(&db).await;
    let exporter = Exporter::start(&db.url(), &QUICK).await;
    exporter.wait_for("a poll", Metrics::is_up).await;

    db.batch("ALTER TABLE validation_executions RENAME TO renamed").await;
    let metrics = exporter.wait_for("the failure", |metrics| metrics.failures("missing") >= 3.0).await;
    assert_eq!(source_up(&metrics, "validation_executions"), 0.0);
    assert_eq!(source_up(&metrics, "mitigation_executions"), 1.0);
    assert!(!metrics.is_up());
    assert_eq!(validations(&metrics), Some(1.0), "the last that is known");
    insert_mitigation(&db).await;
    let mitigations = |metrics: &Metrics| metrics.sum("rsolv_mitigation_executions_total", &[]);
    exporter.wait_for("the other source", |metrics| mitigations(metrics) == 2.0).await;
    let said = "the source cannot be read: validation_executions.sql, line ";
    assert_eq!(exporter.log().matches(said).count(), 1, "{}", exporter.log());

    db.batch("ALTER TABLE renamed RENAME TO validation_executions").await;
    insert_validation(&db).await;
    let metrics = exporter.wait_for("its return", |metrics| metrics.is_up() && validations(metrics) == Some(2.0)).await;
    assert_eq!(mitigations(&metrics), 2.0);
    assert_eq!(source_up(&metrics, "validation_executions"), 1.0);
}

/// A lock that a migration could hold, on one of the tables, until the client is dropped.
async fn lock(db: &Database<'_>) -> tokio_postgres::Client {
    let client = db.client().await;
    client.batch_execute("BEGIN; LOCK TABLE validation_executions IN ACCESS EXCLUSIVE MODE").await.unwrap();
    client
}

#[tokio::test]
async fn a_lock_is_waited_for_no_longer_than_lock_timeout() {
    refused("lock", &["--database.lock-timeout", "100ms"]).await;
}

#[tokio::test]
async fn a_statement_takes_no_longer_than_statement_timeout() {
    refused("timeout", &["--database.lock-timeout", "1m", "--database.statement-timeout", "300ms"]).await;
}

/// One source fails for this reason while its table is locked; the other goes on, and nothing is lost.
async fn refused(reason: &str, flags: &[&str]) {
    let db = Database::new().await;
    insert_validation(&db).await;
    insert_mitigation(&db).await;
    let exporter = Exporter::start(&db.url(), &[&QUICK[..], flags].concat()).await;
    exporter.wait_for("a poll", Metrics::is_up).await;
    let locker = lock(&db).await;
    let metrics = exporter.wait_for("the failure", |metrics| metrics.failures(reason) >= 2.0).await;
    assert_eq!(source_up(&metrics, "validation_executions"), 0.0);
    assert_eq!(source_up(&metrics, "mitigation_executions"), 1.0);
    let all = metrics.sum("rsolv_exporter_poll_failures_total", &[]);
    assert_eq!(metrics.failures(reason), all, "for no other reason\n{}", exporter.log());
    drop(locker);
    insert_validation(&db).await;
    exporter.wait_for("the second row", |metrics| metrics.is_up() && validations(metrics) == Some(2.0)).await;
}
