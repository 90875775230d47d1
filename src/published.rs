//! What polls hand to the web: immutable pages, one for each source, swapped as a whole.
//!
//! A scrape never touches the database, and waits for no poll but for the moment in which the pages are swapped. What
//! scrapes have asked for of late is ready
//! when a page is published; what is asked for rarely is made at the first request for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::SystemTime;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use tokio::sync::OnceCell;
use tokio::task::JoinError;
use tokio::time::{Duration, Instant};

use crate::db::Failure;
use crate::exposition::gzip::Part;
use crate::exposition::{Format, source as encode};
use crate::ledger::Ledger;
use crate::source::Source;
use crate::status::{self, History, Summary, Totals, Trend, Trouble};

/// What was asked for within this time is made ready for the next page: longer than any usual scrape interval.
const DEMAND: Duration = Duration::from_secs(300);

/// The metrics of one source as of one poll.
#[derive(Debug)]
pub struct Page {
    /// The definition.
    pub source: Arc<Source>,
    ledger: Arc<Ledger>,
    created: bool,
    rendered: [Arc<OnceCell<Rendered>>; Format::ALL.len()],
    summary: OnceLock<Summary>,
    /// When it was read.
    pub read_at: Instant,
    /// From then on it is withdrawn.
    pub stale_at: Instant,
    /// Whether it was in a response.
    pub served: Arc<Served>,
}

/// When a page first was in a response: milliseconds since [`Published`] began, plus 1; 0 for not yet.
#[derive(Debug, Default)]
pub struct Served(AtomicU64);

/// A page in one format.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The page itself, without an end mark.
    pub plain: Bytes,
    /// The same, compressed.
    packed: Arc<OnceCell<Part>>,
}

impl Served {
    /// When it first was in a response, in milliseconds since [`Published`] began.
    pub fn at(&self) -> Option<u64> {
        self.0.load(Ordering::Acquire).checked_sub(1)
    }
}

impl Rendered {
    /// The page compressed; the first to ask compresses it, away from the threads that serve. Fails only when the
    /// process ends.
    pub async fn packed(&self) -> Result<&Part, JoinError> {
        let plain = self.plain.clone();
        filled(&self.packed, move || Part::new(&plain)).await
    }
}

impl Page {
    /// The page of a source; `created` says whether OpenMetrics carries `_created`. It may be shown for `lifetime`.
    pub fn new(
        source: Arc<Source>,
        ledger: Arc<Ledger>,
        created: bool,
        read_at: Instant,
        lifetime: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            source,
            ledger,
            created,
            rendered: Default::default(),
            summary: OnceLock::new(),
            read_at,
            stale_at: read_at + lifetime,
            served: Arc::default(),
        })
    }

    /// Whether it may still be shown as metrics.
    pub fn is_fresh(&self) -> bool {
        Instant::now() < self.stale_at
    }

    /// Renders the page, which takes about `size` bytes.
    pub fn render(&self, format: Format, size: usize) -> Bytes {
        let mut encoder = format.encoder(self.created, size);
        encode::encode(encoder.as_mut(), &self.source, &self.ledger);
        encoder.finish().into()
    }

    /// The page in a format; the first to ask renders it, away from the threads that serve. Fails only when the process
    /// ends.
    pub async fn rendered(self: &Arc<Self>, format: Format) -> Result<&Rendered, JoinError> {
        self.rendered_like(format, None).await
    }

    async fn rendered_like(self: &Arc<Self>, format: Format, last: Option<&Self>) -> Result<&Rendered, JoinError> {
        let last = last.and_then(|last| last.rendered[format as usize].get()).map_or(0, |last| last.plain.len());
        let page = self.clone();
        // Pages grow slowly.
        let render = move || Rendered { plain: page.render(format, last + last / 64), packed: Arc::default() };
        filled(&self.rendered[format as usize], render).await
    }

    /// The page for people.
    pub fn summary(&self) -> &Summary {
        self.summary.get_or_init(|| Summary::new(&self.source, &self.ledger))
    }
}

/// What is in a cell; the first to ask fills it, away from the threads that serve. The work goes on when who asked has
/// gone, so that clients that hang up at once cannot start it again and again. Fails only when the process ends.
async fn filled<T>(cell: &Arc<OnceCell<T>>, work: impl FnOnce() -> T + Send + 'static) -> Result<&T, JoinError>
where
    T: Send + Sync + 'static,
{
    if cell.get().is_none() {
        let cell = cell.clone();
        let fill = async move { cell.get_or_try_init(|| tokio::task::spawn_blocking(work)).await.map(|_| ()) };
        tokio::spawn(fill).await??;
    }
    Ok(cell.get().expect("it was filled above, and nothing empties it"))
}

/// The pages of one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// By source; also those that are stale.
    pub pages: Vec<Arc<Page>>,
    /// What the web has made of them, by format; it goes when they do.
    pub answers: [ArcSwapOption<Answer>; Format::ALL.len()],
}

/// What scrapes are answered with, until something in it changes.
#[derive(Debug)]
pub struct Answer {
    /// The pages that are in it.
    pub pages: Vec<Arc<Page>>,
    /// The exposition, piece by piece.
    pub plain: Vec<Bytes>,
    /// The same, compressed, in one piece: it is small, and each piece costs.
    pub packed: OnceCell<Bytes>,
    /// The state of the exporter's own metrics that are in it.
    pub version: u64,
    /// Until then it can be given.
    pub until: Instant,
}

impl Snapshot {
    /// The pages that are not stale.
    pub fn fresh(&self) -> Vec<Arc<Page>> {
        self.pages.iter().filter(|page| page.is_fresh()).cloned().collect()
    }
}

/// Where the newest pages are.
#[derive(Debug)]
pub struct Published {
    began: Instant,
    newest: ArcSwap<Snapshot>,
    /// Held for the moment in which the pages change together with the metrics that tell of them.
    together: RwLock<()>,
    /// When each format was last asked for, plain and compressed: milliseconds since `began`, plus 1; 0 for never.
    asked: [[AtomicU64; 2]; Format::ALL.len()],
    history: ArcSwap<History>,
    /// The poller writes it once a minute, the status page reads it; no scrape waits for it.
    trend: Mutex<Trend>,
}

impl Default for Published {
    fn default() -> Self {
        let (newest, together, history) = (ArcSwap::default(), RwLock::default(), ArcSwap::default());
        let (asked, trend) = Default::default();
        Self { began: Instant::now(), newest, together, asked, history, trend }
    }
}

impl Published {
    /// Makes ready of a page what scrapes have asked for of late; the page that it follows says how large it will be.
    pub async fn prepare(&self, page: &Arc<Page>, last: Option<&Page>) {
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
    pub fn asked(&self, format: Format, packed: bool) {
        self.asked[format as usize][usize::from(packed)].store(self.now() + 1, Ordering::Relaxed);
    }

    /// Replaces all pages, and does in the same moment what `tell` does to the metrics about them.
    pub fn publish(&self, pages: Vec<Arc<Page>>, tell: impl FnOnce()) {
        let mut trend = self.trend.lock().unwrap_or_else(PoisonError::into_inner);
        if trend.is_due(self.age()) {
            let totals = |page: &Arc<Page>| (page.source.name.clone(), status::totals(&page.source, &page.ledger));
            trend.note(self.age(), pages.iter().map(totals).collect());
        }
        drop(trend);
        let _alone = self.together.write().unwrap_or_else(PoisonError::into_inner);
        tell();
        self.newest.store(Arc::new(Snapshot { pages, ..Snapshot::default() }));
    }

    /// Milliseconds on the clock of [`Served::at`].
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The newest pages.
    pub fn newest(&self) -> Arc<Snapshot> {
        self.newest.load_full()
    }

    /// The newest pages, and what `copy` takes of the metrics in the same moment.
    pub fn together<T>(&self, copy: impl FnOnce() -> T) -> (Arc<Snapshot>, T) {
        let _still = self.together.read().unwrap_or_else(PoisonError::into_inner);
        (self.newest(), copy())
    }

    /// How polls went.
    pub fn history(&self) -> Arc<History> {
        self.history.load_full()
    }

    /// The totals of so long ago, and how long ago that really is.
    pub fn before(&self, ago: Duration) -> Option<(Duration, Totals)> {
        let trend = self.trend.lock().unwrap_or_else(PoisonError::into_inner);
        trend.before(self.age(), ago).map(|(ago, totals)| (ago, totals.clone()))
    }

    /// Changes what is known of polls. Only the poller calls this and the functions below.
    fn note(&self, change: impl FnOnce(&mut History)) {
        let mut history = History::clone(&self.history.load());
        change(&mut history);
        self.history.store(Arc::new(history));
    }

    /// Notes which sources could not be read by a poll that could read the database.
    pub fn sources_failed<'a>(&self, failures: impl Iterator<Item = (&'a str, &'a Option<Failure>)>) {
        self.note(|history| {
            let before = std::mem::take(&mut history.sources);
            history.sources = failures
                .filter_map(|(name, failure)| {
                    Some((name.to_owned(), Trouble::after(failure.clone()?, before.get(name))))
                })
                .collect();
        });
    }

    /// Notes that a poll has ended, and why it could not read the database.
    pub fn polled(&self, took: Duration, failure: Option<&Failure>) {
        self.note(|history| history.add(self.began.elapsed(), took, failure));
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
            let last = if well { Some(SystemTime::now()) } else { history.saved.0 };
            history.saved = (last, !well);
        });
    }

    /// How long this exists.
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Notes that a response with this page is on its way.
    pub fn served(&self, page: &Page) {
        // Only the first response counts; when another was faster, it has noted its time.
        if page.served.at().is_none() {
            let _ = page.served.0.compare_exchange(0, self.now() + 1, Ordering::AcqRel, Ordering::Acquire);
        }
    }
}
