//! The loop that reads the database, keeps the ledgers and publishes their pages.
//!
//! One poll: connect if needed; read all sources in one snapshot; apply the answers to the ledgers; where an answer was
//! cut at the limit, read on (a long history, or an outage to catch up with), and finish with one snapshot of all
//! sources; save the state; publish. Failures leave the last pages where they are, until they are stale.

pub mod backoff;
mod change_log;
pub mod failing;
mod persist;
mod read;
mod read_keyed;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::{Duration, Instant};

use crate::config::Settings;
use crate::ledger::Ledger;
use crate::postgres::{Failure, Position, Session, Target, jitter};
use crate::snapshot::{Served, SnapshotStore, SourceSnapshot};
use crate::source::Source;
use crate::state::Fingerprint;
use crate::telemetry::self_metrics::Metrics;
use crate::telemetry::systemd;
use backoff::Backoff;
use change_log::ChangeLog;
use failing::Failing;
use persist::Keeper;
use read_keyed::FailingKeys;

/// Rows read by the first statement of a source; later ones adapt to how long it took.
pub const FIRST_LIMIT: usize = 20_000;
/// Fewer rows than this are not worth a statement.
const MIN_LIMIT: usize = 500;
/// More rows than this would hold too many ids at once.
const MAX_LIMIT: usize = 200_000;
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
    /// The numbers of the page before last and the last one, and whether they were in a response.
    shown: [Option<(u64, Arc<Served>)>; 2],
    limit: usize,
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
    birth_hold: Duration,
    /// A poll should have ended after this.
    patience: Duration,
    chunk: Duration,
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
    /// How many pages have been published.
    number: u64,
    keeper: Option<Keeper>,
    metrics: Metrics,
    published: Arc<SnapshotStore>,
    announcer: ChangeLog,
}

impl Poller {
    /// A poller that has not connected yet.
    pub fn new(settings: &Settings, mut sources: Vec<Source>, metrics: Metrics, published: Arc<SnapshotStore>) -> Self {
        let limit = settings.series.limit;
        if !settings.series.exemplars {
            sources.iter_mut().for_each(|source| source.exemplar = None);
        }
        let tracked = sources.into_iter().map(|source| Tracked {
            fingerprint: Arc::new(Fingerprint::of(&source)),
            ledger: Arc::new(Ledger::new(source.shape(limit))),
            source: Arc::new(source),
            page: None,
            shown: [None, None],
            limit: FIRST_LIMIT,
            failing: Failing::default(),
            failing_keys: FailingKeys::default(),
            read_at: 0.0,
        });
        Self {
            tracked: tracked.collect(),
            target: settings.target.clone(),
            poll: settings.poll.clone(),
            birth_hold: settings.series.birth_hold,
            patience: settings.poll.interval.max(settings.target.timeouts().connect),
            chunk: CHUNK.min(settings.target.timeouts().statement / 10),
            created: settings.web.openmetrics_created,
            session: None,
            position: Position::default(),
            read_at: 0.0,
            identity: None,
            number: 0,
            keeper: None,
            metrics,
            published,
            announcer: ChangeLog::default(),
        }
    }

    /// Leaves it to the caller of [`Poller::poll`] to say what failed.
    pub fn leave_failures(mut self) -> Self {
        self.announcer.leaves_failures = true;
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
    pub async fn poll(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        self.metrics.poll_begins();
        let result = self.read_and_publish().await;
        let lost = result.as_ref().err().filter(|failure| failure.connection_lost);
        // The log comes first: whoever sees the metrics finds the reason there.
        self.announcer.polled(&self.target, lost);
        if let Some(failure) = lost {
            self.session = None;
            self.metrics.failed(failure.reason);
            self.tracked.iter().for_each(|t| self.metrics.source(&t.source, false, 0.0));
        }
        let success = result.is_ok().then(|| now_ms() as f64 / 1000.0);
        self.metrics.poll_ends(started.elapsed(), success);
        self.published.polled(started.elapsed(), lost);
        systemd::status(&match &result {
            Ok(()) => format!("{} sources read in {:.1?}", self.tracked.len(), started.elapsed()),
            Err(failure) => format!("trying again after a failure ({}): {failure}", failure.reason),
        });
        result
    }

    async fn read_and_publish(&mut self) -> Result<(), Failure> {
        self.note_served();
        let all: Vec<usize> = (0..self.tracked.len()).collect();
        let mut failures: Vec<Option<Failure>> = vec![None; self.tracked.len()];
        let (mut reading, mut is_full) = (all.clone(), true);
        loop {
            // When this fails, what earlier chunks brought is in the ledgers, and is shown after the next poll.
            // It is not one source that failed then: the connection is given up, whatever the reason.
            let more = self.read(&reading, is_full, &mut failures).await.map_err(Failure::losing)?;
            if more.is_empty() && is_full && reading == all {
                break;
            }
            // After the last chunk everything is read once more, so that all numbers are of one snapshot. Open and
            // missing ids are looked for in that last one.
            is_full = more.is_empty();
            reading = if is_full { all.clone() } else { more };
        }
        let read: Vec<bool> = failures.iter().map(Option::is_none).collect();
        self.publish(&read).await;
        self.published.sources_failed(self.tracked.iter().map(|t| t.source.name.as_str()).zip(&failures));
        failures.into_iter().flatten().next().map_or(Ok(()), Err)
    }

    /// Tells the ledgers which pages have been in a response; the one before last too, since a response that began
    /// before the swap can have ended after it.
    fn note_served(&mut self) {
        for Tracked { ledger, shown, .. } in &mut self.tracked {
            for (number, served) in shown.iter().flatten() {
                if let Some(at) = served.at() {
                    Arc::make_mut(ledger).served(*number, at);
                }
            }
        }
    }

    /// Releases series that have been seen at 0, saves the state, renders the sources that were `read`, swaps the pages.
    async fn publish(&mut self, read: &[bool]) {
        let (now, wall) = (self.published.now(), now_ms() as f64 / 1000.0);
        let hold = u64::try_from(self.birth_hold.as_millis()).unwrap_or(u64::MAX);
        for (tracked, _) in self.tracked.iter_mut().zip(read).filter(|(_, read)| **read) {
            Arc::make_mut(&mut tracked.ledger).release(now, hold);
        }
        self.number += 1;
        self.save().await;
        // One moment for all, so that all go stale at once.
        let read_at = Instant::now();
        for (tracked, _) in self.tracked.iter_mut().zip(read).filter(|(_, read)| **read) {
            let last = tracked.page.take();
            let new = tracked.next_page(self.number, self.created, read_at, self.poll.stale_after);
            self.published.prepare(&new, last.as_deref()).await;
        }
        let pages = self.tracked.iter().filter_map(|t| t.page.clone()).collect();
        self.published.publish(pages, || {
            for (tracked, &read) in self.tracked.iter().zip(read) {
                self.metrics.source(&tracked.source, read, wall);
                if read {
                    self.metrics.of(&tracked.source, &tracked.ledger);
                }
            }
        });
    }
}

impl Tracked {
    /// The page with this number, which is kept as the last one.
    fn next_page(&mut self, number: u64, created: bool, read_at: Instant, lifetime: Duration) -> Arc<SourceSnapshot> {
        Arc::make_mut(&mut self.ledger).shown(number);
        let page = SourceSnapshot::new(self.source.clone(), self.ledger.clone(), created, read_at, lifetime);
        self.shown = [self.shown[1].take(), Some((number, page.served.clone()))];
        self.page.insert(page).clone()
    }
}

/// Milliseconds since the epoch, for timestamps that are shown.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
