//! The exporter beside its peers, with the same series of the same rows: time in the database, and requests a second.

use std::process::Command;
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::cost;
use crate::peers::{BUCKETS, COUNTER, Content, Peer, Started};
use crate::program;
use crate::report::{Goal, Report, median, ms, short};
use crate::support::database::Database;
use crate::support::exporter::Exporter;
use crate::support::failure::{Failure, Result};
use crate::support::scratch::Scratch;
use crate::{support, tables};

/// New rows of a poll.
const TAIL: u64 = 100;
/// Polls of a round.
const POLLS: u64 = 10;
/// No further round begins that would end after this.
const BUDGET: Duration = Duration::from_secs(120);
/// Runs of wrk.
const LOADS: usize = 3;

/// The exporter with nothing but what the peers have.
async fn ours(db: &Database<'_>, scratch: &Scratch) -> Result<Exporter> {
    let dir = scratch.path().join("queries");
    std::fs::create_dir(&dir)?;
    let sql = include_str!("../../queries/validation_executions.sql");
    let toml = "labels = [\"repo\", \"language\", \"framework\"]\nmissing = { framework = \"none\" }\n\
        columns = { duration_ms = { min = 0 } }\n\
        [[counter]]\nname = \"bench_executions_total\"\nhelp = \"Finished.\"\nlabels = [\"status\"]\n\
        [[histogram]]\nname = \"bench_duration_milliseconds\"\nhelp = \"Durations.\"\nvalue = \"duration_ms\"\n";
    std::fs::write(dir.join("bench.sql"), sql)?;
    std::fs::write(dir.join("bench.toml"), format!("{toml}buckets = [{BUCKETS}]\n"))?;
    let dir = dir.display().to_string();
    let flags = ["--queries.dir", &dir, "--poll.interval", "300ms", "--database.statement-timeout", "10m"];
    let exporter = Exporter::start(&cost::url(db, "ours"), &flags).await;
    program::ready(&exporter).await?;
    Ok(exporter)
}

fn polls(metrics: &support::metrics::Metrics) -> f64 {
    metrics.sum("rsolv_exporter_polls_total", &[])
}

/// Milliseconds in the database of a poll that finds new rows.
async fn poll(ours: &Exporter, db: &Database<'_>, watcher: &Client, repositories: u64) -> Result<f64> {
    let before = (polls(&ours.wait_polls(1).await), cost::of(watcher, "ours").await?);
    let mut after = before.0;
    for _ in 0..POLLS {
        tables::validations(db, TAIL, repositories).await;
        after = polls(&ours.wait_polls(1).await);
    }
    Ok(cost::of(watcher, "ours").await?.since(before.1).time() / (after - before.0))
}

/// Requests a second of a page.
async fn load(address: &str) -> Result<f64> {
    let mut command = Command::new("wrk");
    command.args(["-t1", "-c8", "-d2s", "--timeout", "10s", &format!("http://{address}/metrics")]);
    let text = program::output(command).await?;
    let rate = text.lines().find_map(|l| l.trim().strip_prefix("Requests/sec:")?.trim().parse().ok());
    let is_good = !text.contains("Socket errors") && !text.contains("Non-2xx");
    rate.filter(|_| is_good).ok_or_else(|| Failure::new(format!("wrk: {text}")))
}

/// What a page of these series has now.
async fn expected(db: &Database<'_>) -> Result<Content> {
    let number = |text: String| text.parse::<f64>().map_err(|e| Failure::new(format!("{text}: {e}")));
    let counters = number(db.value(&format!("SELECT count(*) FROM ({COUNTER}) AS e")).await)?;
    let used = "SELECT count(DISTINCT repository_id) FROM validation_executions";
    // A histogram is its buckets with the infinite one, its sum and its count.
    let histograms = number(db.value(used).await)? * (BUCKETS.split(',').count() + 3) as f64;
    let executions = number(db.value("SELECT count(*) FROM validation_executions").await)?;
    Ok(Content { samples: (counters + histograms) as usize, executions })
}

/// Compares with the peers that are installed.
pub async fn measure(
    db: &Database<'_>,
    rows: u64,
    repositories: u64,
    rounds: usize,
    report: &mut Report,
) -> Result<()> {
    let watcher = db.client().await;
    let scratch = Scratch::new("bench", &std::env::temp_dir(), None)?;
    let (peers, missing) = Peer::all(|role| cost::url(db, role), scratch.path())?;
    if !missing.is_empty() {
        report.note(format!("Not found, and so not compared with: {}.", missing.join(", ")));
    }
    let ours = ours(db, &scratch).await?;
    let mut per_poll = Vec::new();
    let mut scrapes: Vec<Vec<f64>> = vec![vec![]; peers.len()];
    let started = Instant::now();
    let mut running: Vec<Started> = Vec::new();
    for round in 0..rounds {
        if round > 0 && started.elapsed() * (round as u32 + 1) / round as u32 > BUDGET {
            break;
        }
        per_poll.push(poll(&ours, db, &watcher, repositories).await?);
        let expected = expected(db).await?;
        running.clear();
        for (peer, seconds) in peers.iter().zip(&mut scrapes) {
            let started = peer.start()?;
            let failed = |error| Failure::new(format!("{}: {error}", peer.name));
            seconds.push(started.complete(expected).await.map_err(failed)?);
            running.push(started);
        }
    }
    let per_poll = median(per_poll);
    for peer in &peers {
        let (theirs, calls) = cost::of_one_round(&watcher, peer.name).await?;
        let what = format!("database, {} (×{calls})", peer.name);
        // What was promised is about this one.
        let is_promised = peer.name == "postgres_exporter" && rows >= 1_000_000;
        let goal = if is_promised { Goal::AtLeast(500.0) } else { Goal::None };
        report.compare(&what, ms(per_poll), ms(theirs), theirs / per_poll, goal);
    }
    requests(&ours, &peers, &running, &scrapes, report).await
}

/// Compares how fast pages are served.
async fn requests(
    ours: &Exporter,
    peers: &[Peer],
    running: &[Started],
    scrapes: &[Vec<f64>],
    report: &mut Report,
) -> Result<()> {
    let mut own = Vec::new();
    let mut rates: Vec<Vec<f64>> = vec![vec![]; peers.len()];
    for _ in 0..LOADS {
        own.push(load(&ours.address).await?);
        for ((peer, started), rates) in peers.iter().zip(running).zip(&mut rates) {
            if !peer.asks_at_scrapes {
                rates.push(load(&started.address).await?);
            }
        }
    }
    let own = median(own);
    for ((peer, rates), scrapes) in peers.iter().zip(rates).zip(scrapes) {
        // One after the other: several at a time would only queue in the database, and wrk may see no page of some in
        // two seconds.
        let alone = 1.0 / median(scrapes.clone());
        let rate = if peer.asks_at_scrapes { alone } else { median(rates) };
        let rate = if rate > 0.0 { rate } else { alone };
        let goal = if peer.name == "sql_exporter" { Goal::AtLeast(20.0) } else { Goal::None };
        let digits = if rate < 10.0 { 2 } else { 0 };
        let what = format!("requests/s, {}", peer.name);
        report.compare(&what, format!("{own:.0}"), format!("{rate:.digits$}"), own / rate, goal);
    }
    Ok(())
}

/// Names a comparison.
pub fn title(rows: u64, repositories: u64) -> String {
    format!("{} validations, {} mitigations, {} repositories", short(rows), short(rows / 2), short(repositories))
}
