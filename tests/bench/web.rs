//! Requests a second and p99 of the metrics path, beside a bare hyper server that returns the same bytes.
//!
//! `make bench` runs it. Everything is on 127.0.0.1, and each run lasts a few seconds. The load generator shares the
//! processors with what it measures, so the comparison says more than the numbers.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a measurement that cannot go on ends"
)]

#[path = "../support/mod.rs"]
mod support;

use std::convert::Infallible;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use support::database::Database;
use support::exporter::Exporter;
use support::failure::{Failure, Result};
use support::http;
use support::ports::free_port;
use support::process;
use support::scratch::Scratch;

/// One row makes 18 series: rows by three statuses, five other counters, and a histogram with ten.
const SETS: usize = 600;
/// As Prometheus asks.
const ACCEPT: &str = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["bare", address, plain, packed] => runtime.block_on(bare(address, Path::new(plain), Path::new(packed))),
        [] => runtime.block_on(compare(3)),
        ["--seconds", seconds] => runtime.block_on(compare(seconds.parse().unwrap_or(3))),
        _ => Err(Failure::new("usage: web [--seconds N]")),
    };
    if let Err(failure) = result {
        eprintln!("bench: {failure}");
        std::process::exit(1);
    }
}

/// The fastest that hyper does with these bytes.
async fn bare(address: &str, plain: &Path, packed: &Path) -> Result<()> {
    let read = |path| std::fs::read(path).map(Bytes::from);
    let (plain, packed) = (read(plain)?, read(packed)?);
    let listener = tokio::net::TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (plain, packed) = (plain.clone(), packed.clone());
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let is_packed = request.headers().contains_key("accept-encoding");
            let mut response = Response::new(Full::new(if is_packed { packed.clone() } else { plain.clone() }));
            response.headers_mut().insert("content-type", HeaderValue::from_static("text/plain"));
            async move { Ok::<_, Infallible>(response) }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

struct Bare(Child);

impl Drop for Bare {
    fn drop(&mut self) {
        // Nothing to do about an error: it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn compare(seconds: u32) -> Result<()> {
    let wrk = Command::new("wrk").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    wrk.map_err(|e| Failure::new(format!("cannot start wrk ({e}); get it with: apt-get install wrk")))?;
    println!("{:>14} {:>6} {:>8}  {:28} {:>10} {:>9}", "series", "coding", "bytes", "server", "requests/s", "p99");
    let mut scraped = 0;
    for sets in [1, SETS] {
        let db = Database::new().await;
        for name in 0..sets {
            db.repository(&format!("organisation/repository-{name}")).await;
        }
        db.batch(
            "INSERT INTO validation_executions (repository_id, issue_number, commit_sha, status, data, started_at,
               completed_at, inserted_at, updated_at)
             SELECT id, 1, 'c0ffee', 'completed', '{\"language\": \"javascript\", \"framework\": \"express\"}', t, t, t, t
             FROM repositories, timezone('UTC', now()) AS t",
        )
        .await;
        // Once it has read, one is left alone and one renders all the time.
        let calm = exporter(&db, "1h").await;
        let busy = exporter(&db, "100ms").await;
        let before = memory(&calm);
        let directory = Scratch::new("bench", &std::env::temp_dir(), None)?;
        let mut sizes = Vec::new();
        for coding in ["identity", "gzip"] {
            let body = calm.request("GET", "/metrics", &[("accept", ACCEPT), ("accept-encoding", coding)]).await.body;
            std::fs::write(directory.path().join(coding), &body)?;
            sizes.push(body.len());
        }
        let address = format!("127.0.0.1:{}", free_port());
        let _bare = start_bare(&address, directory.path()).await?;
        let series = calm.metrics().await.samples.len();
        for (coding, bytes) in ["plain", "gzip"].into_iter().zip(sizes) {
            for (server, address) in
                [("bare hyper", &address), ("exporter", &calm.address), ("exporter, polls every 100ms", &busy.address)]
            {
                let load = wrk_run(address, coding == "gzip", seconds)?;
                if server == "exporter" {
                    scraped += load.requests;
                }
                let Load { rate, p99, .. } = load;
                println!("{series:>14} {coding:>6} {bytes:>8}  {server:28} {rate:>10.0} {p99:>9}");
            }
        }
        let after = memory(&calm);
        println!("{:>14} memory of the exporter before {before} kB, after {scraped} scrapes {after} kB", "");
        scraped = 0;
    }
    Ok(())
}

async fn exporter(db: &Database<'_>, interval: &str) -> Exporter {
    let flags = ["--poll.interval", interval, "--poll.stale-after=2h", "--series.birth-hold=0s"];
    let exporter = Exporter::start(&db.url(), &flags).await;
    exporter.wait_for("a first poll", |m| m.value("rsolv_exporter_up", &[]) == Some(1.0)).await;
    exporter
}

async fn start_bare(address: &str, directory: &Path) -> Result<Bare> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bare").arg(address).args(["identity", "gzip"].map(|name| directory.join(name)));
    let bare = Bare(process::spawn(command, libc::SIGKILL)?);
    while http::get(address, "/").await.is_err() {
        tokio::time::sleep(process::TICK).await;
    }
    Ok(bare)
}

/// What wrk measured.
struct Load {
    requests: u64,
    rate: f64,
    p99: String,
}

fn wrk_run(address: &str, is_packed: bool, seconds: u32) -> Result<Load> {
    let mut command = Command::new("wrk");
    command.args(["--threads", "1", "--connections", "8", "--latency", "--duration"]).arg(format!("{seconds}s"));
    command.args(["--header", &format!("Accept: {ACCEPT}")]);
    if is_packed {
        command.args(["--header", "Accept-Encoding: gzip"]);
    }
    let output = command.arg(format!("http://{address}/metrics")).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let after = |mark: &str| text.lines().find_map(|line| line.trim().strip_prefix(mark)).map(str::trim);
    let total = text.lines().find(|line| line.contains(" requests in "));
    let total = total.and_then(|line| line.split_whitespace().next()).and_then(|n| n.parse().ok());
    let bad = text.contains("Socket errors") || text.contains("Non-2xx");
    match (total, after("Requests/sec:").and_then(|rate| rate.parse().ok()), after("99%")) {
        (Some(requests), Some(rate), Some(p99)) if !bad => Ok(Load { requests, rate, p99: p99.to_owned() }),
        _ => Err(Failure::new(format!("wrk says:\n{text}{}", String::from_utf8_lossy(&output.stderr)))),
    }
}

/// Memory of the exporter that is its own, in kB, when what was freed has settled.
fn memory(exporter: &Exporter) -> u64 {
    std::thread::sleep(Duration::from_millis(200));
    let status = std::fs::read_to_string(format!("/proc/{}/status", exporter.pid())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
}
