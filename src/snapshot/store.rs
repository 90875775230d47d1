//! Where the newest snapshot is, and how polls went.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arc_swap::ArcSwap;
use tokio::time::{Duration, Instant};

use super::source_snapshot::SourceSnapshot;
use super::trend::{Totals, Trend};
use super::{PollHistory, Snapshot, Trouble};
use crate::clock::Clock;
use crate::exposition::Format;
use crate::postgres::Failure;

/// What was asked for within this time is made ready for the next page: longer than any usual scrape interval.
const DEMAND: Duration = Duration::from_secs(300);

/// Where the newest pages are.
#[derive(Debug)]
pub struct SnapshotStore {
    /// Wall time, for what people see.
    pub clock: Clock,
    began: Instant,
    newest: ArcSwap<Snapshot>,
    /// Held for the moment in which the pages change together with the metrics that tell of them.
    together: RwLock<()>,
    /// When each format was last asked for, plain and compressed: milliseconds since `began`, plus 1; 0 for never.
    asked: [[AtomicU64; 2]; Format::ALL.len()],
    history: ArcSwap<PollHistory>,
    /// The poller writes it once a minute, the status page reads it; no scrape waits for it.
    trend: Mutex<Trend>,
}

impl Default for SnapshotStore {
    fn default() -> Self {
        let (newest, together, history) = (ArcSwap::default(), RwLock::default(), ArcSwap::default());
        let (asked, trend) = Default::default();
        Self { clock: Clock::default(), began: Instant::now(), newest, together, asked, history, trend }
    }
}

impl SnapshotStore {
    /// Makes ready of a page what scrapes have asked for of late; the page that it follows says how large it will be.
    pub async fn prepare(&self, page: &Arc<SourceSnapshot>, last: Option<&SourceSnapshot>) {
        for format in Format::ALL {
            let [plain, packed] = self.asked[format as usize].each_ref().map(|asked| self.is_recent(asked));
            // When it fails, the process ends.
            if (plain || packed)
                && let Ok(rendered) = page.rendered_like(format, last).await
                && packed
            {
                let _ = rendered.packed().await;
            }
        }
    }

    fn is_recent(&self, asked: &AtomicU64) -> bool {
        let asked = asked.load(Ordering::Relaxed).checked_sub(1);
        asked.is_some_and(|asked| u128::from(self.now().saturating_sub(asked)) < DEMAND.as_millis())
    }

    /// Notes what a scrape asked for.
    pub fn mark_asked(&self, format: Format, packed: bool) {
        self.asked[format as usize][usize::from(packed)].store(self.now() + 1, Ordering::Relaxed);
    }

    /// Replaces all pages, and does in the same moment what `tell` does to the metrics about them.
    pub fn publish(&self, pages: Vec<Arc<SourceSnapshot>>, tell: impl FnOnce()) {
        let mut trend = self.trend.lock().unwrap_or_else(PoisonError::into_inner);
        if trend.is_due(self.age()) {
            let totals = |page: &Arc<SourceSnapshot>| (page.source.name.clone(), page.totals());
            trend.note(self.age(), pages.iter().map(totals).collect());
        }
        drop(trend);
        let _alone = self.together.write().unwrap_or_else(PoisonError::into_inner);
        tell();
        self.newest.store(Arc::new(Snapshot { pages, ..Snapshot::default() }));
    }

    /// Milliseconds on the clock of [`crate::ledger::zero_hold::ScrapeMark`].
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The newest pages.
    pub fn newest(&self) -> Arc<Snapshot> {
        self.newest.load_full()
    }

    /// The newest pages, and what `copy` takes of the metrics in the same moment.
    pub(super) fn together<T>(&self, copy: impl FnOnce() -> T) -> (Arc<Snapshot>, T) {
        let _still = self.together.read().unwrap_or_else(PoisonError::into_inner);
        (self.newest(), copy())
    }

    /// How polls went.
    pub fn history(&self) -> Arc<PollHistory> {
        self.history.load_full()
    }

    /// The totals of so long ago, and how long ago that really is.
    pub fn before(&self, ago: Duration) -> Option<(Duration, Totals)> {
        let trend = self.trend.lock().unwrap_or_else(PoisonError::into_inner);
        trend.before(self.age(), ago).map(|(ago, totals)| (ago, totals.clone()))
    }

    /// Changes what is known of polls. Only the poller calls this and the functions below.
    fn note(&self, change: impl FnOnce(&mut PollHistory)) {
        let mut history = PollHistory::clone(&self.history.load());
        change(&mut history);
        self.history.store(Arc::new(history));
    }

    /// Notes which sources could not be read by a poll that could read the database.
    pub fn sources_failed<'a>(&self, failures: impl Iterator<Item = (&'a str, &'a Option<Failure>)>) {
        self.note(|history| {
            let before = std::mem::take(&mut history.sources);
            history.sources = failures
                .filter_map(|(name, failure)| {
                    Some((name.to_owned(), Trouble::after(failure.clone()?, before.get(name), self.clock.now())))
                })
                .collect();
        });
    }

    /// Notes that a poll has ended, and why it could not read the database.
    pub fn polled(&self, took: Duration, failure: Option<&Failure>) {
        self.note(|history| history.add(self.clock.now(), self.began.elapsed(), took, failure));
    }

    /// Notes when the next poll begins.
    pub fn waits_until(&self, next: Instant) {
        self.note(|history| history.next = Some(next));
    }

    /// Notes which server is being read: its version, and true for a standby.
    pub fn reads_from(&self, version: String, standby: bool) {
        self.note(|history| history.server = Some((version, standby)));
    }

    /// Notes whether the state was saved.
    pub fn saved(&self, well: bool) {
        self.note(|history| {
            let last = if well { Some(self.clock.now()) } else { history.saved.0 };
            history.saved = (last, !well);
        });
    }

    /// How long this exists.
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }
}
