//! Many writers at once, for some seconds: every execution is counted exactly once.
//!
//! `make test-soak` does it with more seeds.

mod rows;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::support::coherence::{fallen, incoherent};
use crate::support::database::Database;
use crate::support::exporter::Exporter;
use crate::support::metrics::Metrics;
use crate::support::process::PATIENCE;
use crate::support::truth::Truth;
use writer::Writer;

/// Writers of every kind of transaction; one pairs and one retains besides.
const WRITERS: u64 = 14;
/// New transactions are begun for so long; those under way then end in their own time.
const WRITING: Duration = Duration::from_secs(5);

/// Both sources get one row in each transaction on this repository.
const PAIRED: &str = "pairs/of-two";

/// What the scraper knows of the polls, for writers that must not touch a row before two polls have seen it.
#[derive(Default)]
pub struct Polls(Mutex<Vec<(Instant, u64)>>);

impl Polls {
    /// A scrape that began at `at` said that so many polls have begun.
    fn note(&self, at: Instant, begun: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((at, begun));
    }

    /// Whether two polls that began after `committed` have ended.
    pub fn two_since(&self, committed: Instant) -> bool {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let after = noted.get(noted.partition_point(|scrape| scrape.0 < committed));
        // Of the polls begun when that scrape was made, the last may have a snapshot from before.
        after.zip(noted.last()).is_some_and(|(after, last)| last.1 >= after.1 + 3)
    }
}

/// What must hold on every scrape, however busy the writers are.
fn wrong(before: &Metrics, after: &Metrics) -> Vec<String> {
    let mut wrong = [fallen(before, after), incoherent(after)].concat();
    let sum = |name: &str, labels: &[(&str, &str)]| after.sum(name, labels);
    // Written together, so seen together: one snapshot for all sources.
    let pairs = ["validation", "mitigation"].map(|kind| {
        sum(&format!("rsolv_{kind}_executions_total"), &[("repo", PAIRED)])
            + sum(&format!("rsolv_{kind}_duration_milliseconds_count"), &[("repo", PAIRED)])
    });
    if pairs[0] != pairs[1] {
        wrong.push(format!("pairs came apart: {pairs:?}"));
    }
    // Every row has a duration, and as many tests passed and failed as were generated.
    for kind in ["validation", "mitigation"] {
        let rows = sum(&format!("rsolv_{kind}_executions_total"), &[]);
        let timed = sum(&format!("rsolv_{kind}_duration_milliseconds_count"), &[]);
        if rows != timed {
            wrong.push(format!("{rows} {kind}s, {timed} of them with a duration"));
        }
    }
    let [generated, passed, failed] =
        ["generated", "passed", "failed"].map(|of| sum(&format!("rsolv_validation_test_{of}_total"), &[]));
    if generated != passed + failed {
        wrong.push(format!("{generated} tests generated, {passed} passed, {failed} failed"));
    }
    if sum("rsolv_exporter_up", &[]) != 1.0 {
        wrong.push("not up".into());
    }
    wrong
}

/// Scrapes until told to stop; panics at the first scrape with something wrong.
async fn scrape(exporter: Arc<Exporter>, polls: Arc<Polls>, stop: watch::Receiver<bool>) -> usize {
    let mut before = exporter.metrics().await;
    let mut scrapes = 0;
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    while !*stop.borrow() {
        tick.tick().await;
        let at = Instant::now();
        let metrics = exporter.metrics().await;
        polls.note(at, metrics.sum("rsolv_exporter_polls_total", &[]) as u64);
        assert_eq!(wrong(&before, &metrics), [""; 0], "at scrape {scrapes}; the exporter's log:\n{}", exporter.log());
        before = metrics;
        scrapes += 1;
    }
    scrapes
}

async fn soak(seed: u64) {
    let db = Database::new().await;
    // One pair is there from the start, so that the series of the two sources are born together.
    let mut truth = Truth::default();
    let pair = Writer::new(&db, seed, 0).await.pair_once().await;
    truth.merge(pair);
    let flags = ["--poll.interval", "150ms", "--series.birth-hold", "0s"];
    let exporter = Arc::new(Exporter::start(&db.url(), &flags).await);
    exporter.wait_for("the first poll", |metrics| metrics.sum("rsolv_exporter_up", &[]) == 1.0).await;

    let polls = Arc::new(Polls::default());
    let (stop, stopped) = watch::channel(false);
    let mut scraper = tokio::spawn(scrape(exporter.clone(), polls.clone(), stopped));
    let until = Instant::now() + WRITING;
    let mut writers = tokio::task::JoinSet::new();
    for number in 1..=WRITERS {
        let mut writer = Writer::new(&db, seed, number).await;
        let polls = polls.clone();
        writers.spawn(async move { writer.write(&polls, until).await });
    }
    let (pairing, retaining) = (Writer::new(&db, seed, 100).await, Writer::new(&db, seed, 101).await);
    writers.spawn(pairing.pair(until));
    let retained = polls.clone();
    writers.spawn(async move { retaining.retain(&retained, until).await });
    loop {
        tokio::select! {
            written = writers.join_next() => match written {
                Some(written) => truth.merge(written.unwrap_or_else(|error| panic!("seed {seed}: a writer: {error}"))),
                None => break,
            },
            ended = &mut scraper => panic!("seed {seed}: the scraper: {ended:?}"),
        }
    }

    let deadline = Instant::now() + PATIENCE;
    let last = loop {
        let metrics = exporter.metrics().await;
        let differences = truth.differences(&metrics);
        if differences.is_empty() {
            break metrics;
        }
        assert!(Instant::now() < deadline, "seed {seed}: {differences:#?}\n{}", exporter.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    // Nothing is counted again later either.
    let end = exporter.wait_polls(3).await;
    assert_eq!(truth.differences(&end), [""; 0], "seed {seed}");
    stop.send(true).expect("the scraper waits for it");
    let scrapes = scraper.await.unwrap_or_else(|error| panic!("seed {seed}: the scraper: {error:?}"));

    assert_eq!(end.sum("rsolv_exporter_poll_failures_total", &[]), 0.0, "seed {seed}: {}", exporter.log());
    for (kind, status) in
        [("validation", "pending"), ("validation", "running"), ("mitigation", "pending"), ("mitigation", "running")]
    {
        let open = end.sum(&format!("rsolv_{kind}_executions_open"), &[("status", status)]);
        let truth =
            format!("SELECT count(*) FROM {kind}_executions WHERE status = '{status}' AND commit_sha <> 'seen'");
        assert_eq!(open.to_string(), db.value(&truth).await, "seed {seed}: {kind} {status}");
    }
    let rows = last.sum("rsolv_exporter_rows_counted_total", &[]);
    assert_eq!(rows, truth.executions as f64, "seed {seed}");
    println!("seed {seed}: {rows} executions, {scrapes} scrapes, {} polls", end.sum("rsolv_exporter_polls_total", &[]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_and_every_execution_counts_once() {
    let seeds = match std::env::var("RSOLV_SOAK_SEEDS") {
        Ok(text) => text.parse().expect("RSOLV_SOAK_SEEDS is a number of seeds"),
        Err(_) => 2,
    };
    for seed in 1..=seeds {
        soak(seed).await;
    }
}
