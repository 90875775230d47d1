//! The loop that reads the database, keeps the ledgers and publishes their pages.
//!
//! One poll: connect if needed; read all sources in one snapshot; apply the answers to the ledgers; where an answer was
//! cut at the limit, read on (a long history, or an outage to catch up with), and finish with one snapshot of all
//! sources; save the state; publish. Failures leave the last pages where they are, until they are stale.

mod at_once;
pub mod backoff;
mod change_log;
pub mod chunk_size;
pub mod failing;
mod look;
mod persist;
mod read;
mod read_keyed;
mod server;

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Duration, Instant};

use crate::config::Settings;
use crate::ledger::Ledger;
use crate::ledger::zero_hold::ZeroHold;
use crate::postgres::{Failure, Position, Session, Target, jitter};
use crate::snapshot::{SnapshotStore, SourceSnapshot};
use crate::source::Source;
use crate::state::Fingerprint;
use crate::telemetry::self_metrics::Metrics;
use crate::telemetry::systemd;
use backoff::Backoff;
use change_log::ChangeLog;
use chunk_size::ChunkSize;
use failing::Failing;
use persist::Keeper;
use read_keyed::FailingKeys;

/// Rows read by the first statement of a source; later ones adapt to how long it took.
pub const FIRST_LIMIT: usize = 20_000;
/// Fewer rows are not worth a statement, and more would hold too many ids at once.
const LIMITS: (usize, usize) = (500, 200_000);
/// A statement that reads history should take about this long, and at most a tenth of `statement_timeout`.
const CHUNK: Duration = Duration::from_secs(1);

/// A source with what is known of it.
#[derive(Debug)]
pub struct Tracked {
    /// The definition.
    pub source: Arc<Source>,
    /// What its numbers mean.
    fingerprint: Arc<Fingerprint>,
    /// What has been counted. The page and the state that is being saved share it until it changes.
    pub ledger: Arc<Ledger>,
    /// The last page.
    page: Option<Arc<SourceSnapshot>>,
    /// Which new series are still shown as 0.
    zero_hold: ZeroHold,
    /// How many rows one statement reads.
    chunk: ChunkSize,
    /// True if a statement took longer than a steady poll should.
    is_slow: bool,
    /// Rows that cannot be read.
    failing: Failing,
    /// The same of a source with a key of its own.
    failing_keys: FailingKeys,
    /// The database's clock when it was last read, in seconds since the epoch.
    read_at: f64,
}

/// Everything that a poll changes.
#[derive(Debug)]
pub struct Poller {
    target: Target,
    poll: crate::config::Poll,
    /// A poll should have ended after this.
    patience: Duration,
    created: bool,
    /// The sources and their ledgers.
    pub tracked: Vec<Tracked>,
    session: Option<Session>,
    /// The last snapshot.
    position: Position,
    /// The database's clock at the last snapshot, in seconds since the epoch.
    read_at: f64,
    /// Which database was read.
    identity: Option<String>,
    keeper: Option<Keeper>,
    metrics: Metrics,
    published: Arc<SnapshotStore>,
    change_log: ChangeLog,
}

impl Poller {
    /// A poller that has not connected yet.
    pub fn new(settings: &Settings, mut sources: Vec<Source>, metrics: Metrics, published: Arc<SnapshotStore>) -> Self {
        let limit = settings.series.limit;
        if !settings.series.exemplars {
            sources.iter_mut().for_each(|source| source.exemplar = None);
        }
        let chunk = CHUNK.min(settings.target.timeouts().statement / 10);
        let tracked = sources.into_iter().map(|source| Tracked {
            fingerprint: Arc::new(Fingerprint::of(&source)),
            ledger: Arc::new(Ledger::new(source.shape(limit))),
            source: Arc::new(source),
            page: None,
            zero_hold: ZeroHold::new(settings.series.birth_hold),
            chunk: ChunkSize::new(FIRST_LIMIT, LIMITS, chunk),
            is_slow: false,
            failing: Failing::default(),
            failing_keys: FailingKeys::default(),
            read_at: 0.0,
        });
        Self {
            tracked: tracked.collect(),
            target: settings.target.clone(),
            poll: settings.poll.clone(),
            patience: settings.poll.interval.max(settings.target.timeouts().connect),
            created: settings.web.openmetrics_created,
            session: None,
            position: Position::default(),
            read_at: 0.0,
            identity: None,
            keeper: None,
            metrics,
            published,
            change_log: ChangeLog::default(),
        }
    }

    /// Leaves it to the caller of [`Poller::poll`] to say what failed.
    pub fn leave_failures(mut self) -> Self {
        self.change_log.leaves_failures = true;
        self
    }

    /// Polls until `stop` changes: the first time at once, then at the interval, missed ticks never in a burst.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut backoff = Backoff::new(self.poll.interval);
        loop {
            let started = Instant::now();
            let (metrics, patience) = (self.metrics.clone(), self.patience);
            let overrun = async {
                tokio::time::sleep(patience).await;
                metrics.poll_is_overdue();
                std::future::pending::<Infallible>().await
            };
            let result = tokio::select! {
                result = self.poll() => result,
                never = overrun => match never {},
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let next = match result {
                // Only a connection is worth trying again early: a source that fails does so at every poll.
                Err(failure) if failure.connection_lost => Instant::now() + backoff.next(fastrand::f64()),
                _ => {
                    backoff.reset();
                    started + jitter(self.poll.interval)
                }
            };
            self.published.waits_until(next);
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// One poll, with everything that tells of it.
    ///
    /// # Errors
    /// Fails if the database or one of its sources could not be read; the ledgers have what was read before.
    pub async fn poll(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        self.metrics.poll_begins();
        let result = self.read_and_publish().await;
        let lost = result.as_ref().err().filter(|failure| failure.connection_lost);
        // The log comes first: whoever sees the metrics finds the reason there.
        self.change_log.polled(&self.target, lost);
        if let Some(failure) = lost {
            self.session = None;
            self.metrics.failed(failure.reason);
            self.tracked.iter().for_each(|t| self.metrics.source(&t.source, false, 0.0));
        }
        let success = result.is_ok().then(|| self.published.clock.seconds());
        self.metrics.poll_ends(started.elapsed(), success);
        self.published.polled(started.elapsed(), lost);
        systemd::status(&match &result {
            Ok(()) => format!("{} sources read in {:.1?}", self.tracked.len(), started.elapsed()),
            Err(failure) => format!("trying again after a failure ({}): {failure}", failure.reason),
        });
        result
    }

    async fn read_and_publish(&mut self) -> Result<(), Failure> {
        let all: Vec<usize> = (0..self.tracked.len()).collect();
        let (mut reading, mut is_full) = (all.clone(), true);
        let outcomes = loop {
            // When this fails, what earlier chunks brought is in the ledgers, and is shown after the next poll.
            // It is not one source that failed then: the connection is given up, whatever the reason.
            let answers = self.read(&reading, is_full).await.map_err(Failure::losing)?;
            let outcomes = self.apply(answers);
            let is_more = |outcome: &Result<bool, Failure>| matches!(outcome, Ok(true));
            let more: Vec<usize> =
                reading.iter().zip(&outcomes).filter(|(_, outcome)| is_more(outcome)).map(|(&i, _)| i).collect();
            if more.is_empty() && is_full && reading == all {
                break outcomes;
            }
            // After the last chunk everything is read once more, so that all numbers are of one snapshot. Open and
            // missing ids are looked for in that last one.
            is_full = more.is_empty();
            reading = if is_full { all.clone() } else { more };
        };
        let failures: Vec<Option<Failure>> = outcomes.into_iter().map(Result::err).collect();
        self.publish(&failures).await;
        failures.into_iter().flatten().next().map_or(Ok(()), Err)
    }

    /// Releases series that have been seen at 0, saves the state, renders the sources that did not fail, swaps the pages.
    async fn publish(&mut self, failures: &[Option<Failure>]) {
        let (now, wall) = (self.published.now(), self.published.clock.seconds());
        let read: Vec<bool> = failures.iter().map(Option::is_none).collect();
        for (tracked, _) in self.tracked.iter_mut().zip(&read).filter(|(_, read)| **read) {
            tracked.zero_hold.release(Arc::make_mut(&mut tracked.ledger), now);
        }
        self.save().await;
        // One moment for all, so that all go stale at once.
        let read_at = Instant::now();
        for (tracked, _) in self.tracked.iter_mut().zip(&read).filter(|(_, read)| **read) {
            let last = tracked.page.take();
            let new = tracked.next_page(self.created, read_at, self.poll.stale_after);
            self.published.prepare(&new, last.as_deref()).await;
        }
        let pages = self.tracked.iter().filter_map(|t| t.page.clone()).collect();
        self.published.publish(pages, || {
            for (tracked, &read) in self.tracked.iter().zip(&read) {
                self.metrics.source(&tracked.source, read, wall);
                if read {
                    self.metrics.of(&tracked.source, &tracked.ledger);
                }
            }
        });
        self.published.sources_failed(self.tracked.iter().map(|t| t.source.name.as_str()).zip(failures));
    }
}

impl Tracked {
    /// The page of what has been counted by now, which is kept as the last one.
    fn next_page(&mut self, created: bool, read_at: Instant, lifetime: Duration) -> Arc<SourceSnapshot> {
        let mark = self.zero_hold.publish(Arc::make_mut(&mut self.ledger));
        let page = SourceSnapshot::new(self.source.clone(), self.ledger.clone(), created, read_at, lifetime, mark);
        self.page.insert(page).clone()
    }
}
