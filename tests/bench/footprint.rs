//! Memory, processor, state file and start of the exporter itself.

use std::time::{Duration, Instant};

use rsolv_exporter::exposition::Format;
use rsolv_exporter::snapshot::SourceSnapshot;
use rsolv_exporter::source::Source;
use rsolv_exporter::state::{self, Resumed, State, StateFile};

use crate::program;
use crate::report::{Report, median, short};
use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::exporter::Exporter;
use crate::support::failure::{Failure, Result};
use crate::support::scratch::Scratch;
use crate::tables;

/// Samples of one repository: 18 of validations (3 statuses, a histogram of 10, 5 counters), 27 of mitigations.
const PER_REPOSITORY: u64 = 45;

/// Seconds of processor that all threads of a process have used.
fn processor(pid: u32) -> Result<f64> {
    let mut nanoseconds = 0.0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        nanoseconds += text.split_whitespace().next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(f64::NAN);
    }
    Ok(nanoseconds / 1e9)
}

/// A line of `/proc/PID/status`, in megabytes.
pub fn memory(pid: u32, key: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix(key)?.split_whitespace().next()?.parse::<f64>().ok());
    line.map(|kilobytes| kilobytes / 1024.0).ok_or_else(|| Failure::new(format!("no {key} in /proc/{pid}/status")))
}

/// From the start of the process to the first metrics, with a state file that holds the history.
pub async fn start(db: &Database<'_>, rows: u64, report: &mut Report) -> Result<()> {
    let scratch = Scratch::new("bench", &std::env::temp_dir(), None)?;
    let path = scratch.path().join("state").display().to_string();
    let flags = ["--state.file", &path, "--database.statement-timeout", "10m"];
    let mut seconds = Vec::new();
    for run in 0..8 {
        let started = Instant::now();
        let mut exporter = Exporter::start(&db.url(), &flags).await;
        program::ready(&exporter).await?;
        if run > 0 {
            seconds.push(started.elapsed().as_secs_f64() * 1000.0);
        }
        exporter.terminate().await;
    }
    let what = format!("start to first metrics, state of {} rows", short(rows));
    // What is waited for is looked at every 10 ms, and a steady poll is part of it.
    report.bound(&what, median(seconds), "ms", "±10 ms", Some(100.0));
    Ok(())
}

/// Renders the pages of all sources in one format, returns how long that took in milliseconds.
fn render(state: &State) -> Result<f64> {
    let mut took = Duration::ZERO;
    for source in Source::shipped().map_err(|problems| Failure::new(format!("{problems:?}")))? {
        let saved = state.sources.get(&source.name).cloned();
        let saved = saved.ok_or_else(|| Failure::new(format!("no {} in the state", source.name)))?;
        let Resumed::Whole(ledger) = saved.resume(&source, source.shape(10_000)) else {
            return Err(Failure::new("the state is of other definitions"));
        };
        let started = Instant::now();
        let now = tokio::time::Instant::now();
        let page =
            SourceSnapshot::new(source.into(), ledger.into(), false, now, Duration::from_secs(300), Default::default());
        let text = page.render(Format::OpenMetrics, 0);
        took += started.elapsed();
        drop(text);
    }
    Ok(took.as_secs_f64() * 1000.0)
}

/// Memory, processor time and the state file with so many series.
pub async fn measure(cluster: &Cluster, series: u64, report: &mut Report) -> Result<()> {
    let db = Database::on(cluster).await;
    let repositories = series.div_ceil(PER_REPOSITORY);
    tables::fill(&db, repositories * 4, repositories).await;
    let scratch = Scratch::new("bench", &std::env::temp_dir(), None)?;
    let path = scratch.path().join("state");
    let text = path.display().to_string();
    let exporter = Exporter::start(&db.url(), &["--state.file", &text, "--poll.interval", "100ms"]).await;
    program::ready(&exporter).await?;
    exporter.metrics().await;
    // The harness waits half a minute, and scrapes all the while.
    let count = if series > 10_000 { 20 } else { 100 };
    let polls = |metrics: &crate::support::metrics::Metrics| metrics.sum("rsolv_exporter_polls_total", &[]);
    let (before, used) = (polls(&exporter.metrics().await), processor(exporter.pid())?);
    let after = polls(&exporter.wait_polls(count).await);
    let per_poll = (processor(exporter.pid())? - used) / (after - before);
    let samples = exporter.metrics().await.samples.iter().filter(|s| !s.name.starts_with("rsolv_exporter")).count();
    let exact = format!("{samples} samples, {repositories} repositories");
    report.line("on a page", exact, "", None);
    let (now, peak) = (memory(exporter.pid(), "VmRSS:")?, memory(exporter.pid(), "VmHWM:")?);
    let goal = |goals: [Option<f64>; 3]| goals[[2_000, 10_000].iter().filter(|&&bound| series > bound).count()];
    let most = goal([Some(15.0), None, Some(100.0)]);
    report.bound("resident memory", now, "MB", &format!("peak {peak:.1} MB"), most);
    let share = format!("{:.2} ms a poll, with scrapes", per_poll * 1000.0);
    report.bound(
        "processor at a poll in 15 s, of a core",
        per_poll / 15.0 * 100.0,
        "%",
        &share,
        goal([Some(0.1), None, None]),
    );

    let state = state::load(&path).map_err(|e| Failure::new(e.to_string()))?;
    let file = StateFile::lock(&scratch.path().join("copy"))?;
    let mut milliseconds = Vec::new();
    for _ in 0..21 {
        let started = Instant::now();
        file.save(&state)?;
        milliseconds.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    let size = std::fs::metadata(&path)?.len() as f64;
    report.line(
        "state file",
        format!("{:.0} kB", size / 1000.0),
        &format!("{:.0} bytes a sample", size / samples as f64),
        None,
    );
    report.bound("saving the state", median(milliseconds), "ms", "both fsyncs", goal([Some(5.0), Some(5.0), None]));
    let milliseconds = (0..21).map(|_| render(&state)).collect::<Result<Vec<f64>>>()?;
    report.bound(
        "rendering a page",
        median(milliseconds),
        "ms",
        "one format, all sources",
        goal([None, None, Some(100.0)]),
    );
    Ok(())
}
