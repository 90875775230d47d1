//! The harness itself: what other tests stand on.

use std::time::Duration;

use serde_json::json;

use crate::support::cluster::Cluster;
use crate::support::database::{Database, connect};
use crate::support::execution::{Mitigation, Validation};

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

/// Whether nothing comes of it in a time in which an answer is certain to come
/// when the network works.
async fn times_out<T>(attempt: impl Future<Output = T>) -> bool {
    tokio::time::timeout(Duration::from_millis(300), attempt).await.is_err()
}
