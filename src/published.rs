//! What polls hand to the web: immutable pages, one for each source, swapped as a whole.
//!
//! A scrape takes no lock that a poll holds, and never touches the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::OnceCell;
use tokio::time::{Duration, Instant};

use crate::db::Failure;
use crate::exposition::gzip::Part;
use crate::exposition::{Encoder, Format, source as encode};
use crate::ledger::Ledger;
use crate::source::Source;
use crate::status::{History, Summary};

/// The metrics of one source as of one poll, rendered.
#[derive(Debug)]
pub struct Page {
    /// The source's name.
    pub name: String,
    text: Rendered,
    openmetrics: Rendered,
    /// The same for the status page.
    pub summary: Summary,
    /// When it was read.
    pub read_at: Instant,
    /// From then on it is withdrawn.
    stale_at: Instant,
    /// When it first was in a response: milliseconds since [`Published`] began, plus 1; 0 for not yet.
    served: AtomicU64,
}

/// A page in one format.
#[derive(Debug)]
pub struct Rendered {
    /// The page itself, without an end mark.
    pub plain: Bytes,
    /// The same, compressed when it is first asked for.
    pub compressed: OnceCell<Part>,
}

impl Page {
    /// Renders a source; it may be shown for `lifetime`.
    pub fn render(source: &Source, ledger: &Ledger, created: bool, read_at: Instant, lifetime: Duration) -> Self {
        let render = |format| {
            let mut encoder = Encoder::new(format, created);
            encode::encode(&mut encoder, source, ledger);
            Rendered { plain: encoder.finish().into(), compressed: OnceCell::new() }
        };
        Self {
            name: source.name.clone(),
            text: render(Format::Text),
            openmetrics: render(Format::OpenMetrics),
            summary: Summary::new(source, ledger),
            read_at,
            stale_at: read_at + lifetime,
            served: AtomicU64::new(0),
        }
    }

    /// Whether it may still be shown as metrics.
    pub fn is_fresh(&self) -> bool {
        Instant::now() < self.stale_at
    }

    /// The page in a format.
    pub fn rendered(&self, format: Format) -> &Rendered {
        match format {
            Format::Text => &self.text,
            Format::OpenMetrics => &self.openmetrics,
        }
    }

    /// When it first was in a response, in milliseconds since [`Published`] began.
    pub fn served_at(&self) -> Option<u64> {
        self.served.load(Ordering::Acquire).checked_sub(1)
    }
}

/// Where the newest pages are.
#[derive(Debug)]
pub struct Published {
    began: Instant,
    pages: ArcSwap<Vec<Arc<Page>>>,
    history: ArcSwap<History>,
}

impl Default for Published {
    fn default() -> Self {
        Self { began: Instant::now(), pages: ArcSwap::default(), history: ArcSwap::default() }
    }
}

impl Published {
    /// Replaces all pages.
    pub fn publish(&self, pages: Vec<Arc<Page>>) {
        self.pages.store(Arc::new(pages));
    }

    /// Milliseconds on the clock of [`Page::served_at`].
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The pages that are not stale.
    pub fn fresh(&self) -> Vec<Arc<Page>> {
        self.pages.load().iter().filter(|page| page.is_fresh()).cloned().collect()
    }

    /// All pages, also those that are stale.
    pub fn all(&self) -> Arc<Vec<Arc<Page>>> {
        self.pages.load_full()
    }

    /// How polls went.
    pub fn history(&self) -> Arc<History> {
        self.history.load_full()
    }

    /// Notes which sources could not be read by a poll that could read the database. Only the poller calls this.
    pub fn sources_failed<'a>(&self, failures: impl Iterator<Item = (&'a str, &'a Option<Failure>)>) {
        let failed = failures.filter_map(|(name, failure)| Some((name.to_owned(), failure.clone()?)));
        self.history.store(Arc::new(History { sources: failed.collect(), ..History::clone(&self.history.load()) }));
    }

    /// Notes that a poll has ended, and why it could not read the database. Only the poller calls this.
    pub fn polled(&self, took: Duration, failure: Option<&Failure>) {
        let mut history = History::clone(&self.history.load());
        history.add(self.began.elapsed(), took, failure);
        self.history.store(Arc::new(history));
    }

    /// How long this exists.
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether anything was ever published.
    pub fn is_empty(&self) -> bool {
        self.pages.load().is_empty()
    }

    /// Notes that a response with this page is on its way.
    pub fn served(&self, page: &Page) {
        // Only the first response counts; when another was faster, it has noted its time.
        let _ = page.served.compare_exchange(0, self.now() + 1, Ordering::AcqRel, Ordering::Acquire);
    }
}
