//! Many clients at once.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::attack::more_files;
use crate::support::database::Database;
use crate::support::exporter::Exporter;
use crate::support::metrics::Metrics;
use crate::support::process::PATIENCE;

/// The largest number of connections that the exporter keeps.
const MOST: usize = 2048;

/// Memory of the process that is its own, in bytes.
fn memory(exporter: &Exporter) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", exporter.pid())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line RssAnon");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

/// A connection that has had one answer.
async fn used(exporter: &Exporter) -> TcpStream {
    let mut stream = TcpStream::connect(&exporter.address).await.expect("a connection");
    stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("a request");
    let mut answer = [0; 1024];
    let n = stream.read(&mut answer).await.expect("an answer");
    assert!(answer[..n].starts_with(b"HTTP/1.1 200"));
    stream
}

#[tokio::test]
async fn a_thousand_idle_connections_cost_less_than_20_megabytes() {
    more_files();
    let db = Database::new().await;
    let exporter = Exporter::start(&db.url(), &[]).await;
    exporter.wait_for("a first poll", Metrics::is_up).await;
    let before = memory(&exporter);
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(used(&exporter).await);
    }
    let cost = memory(&exporter).saturating_sub(before);
    println!("1000 idle connections: {} kB", cost / 1024);
    assert!(cost < 20_000_000, "{cost}");
    assert_eq!(exporter.get("/metrics").await.status, 200);
    drop(idle);
}

#[tokio::test]
async fn where_all_places_are_taken_the_oldest_connection_gives_way() {
    more_files();
    let db = Database::new().await;
    let exporter = Exporter::start(&db.url(), &[]).await;
    let mut crowd = Vec::new();
    for _ in 0..MOST {
        crowd.push(used(&exporter).await);
    }
    for _ in 0..10 {
        crowd.push(used(&exporter).await);
    }
    let files = std::fs::read_dir(format!("/proc/{}/fd", exporter.pid())).expect("its files").count();
    assert!((MOST..MOST + 50).contains(&files), "{files} files");
    let (deadline, mut ended) = (Instant::now() + PATIENCE, 0);
    while ended < 10 {
        assert!(Instant::now() < deadline, "{ended} of the oldest gave way");
        tokio::task::yield_now().await;
        // Some of them were served in the same moment.
        ended = crowd[..20].iter().filter(|stream| matches!(stream.try_read(&mut [0; 1]), Ok(0))).count();
    }
    let is_open = |stream: &TcpStream| !matches!(stream.try_read(&mut [0; 1]), Ok(0));
    assert!(crowd[20..].iter().all(is_open) && ended == 10);
}
