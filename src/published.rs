//! What polls hand to the web: immutable pages, one for each source, swapped as a whole.
//!
//! A scrape takes no lock that a poll holds, and never touches the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::OnceCell;
use tokio::time::{Duration, Instant};

use crate::exposition::gzip::Part;
use crate::exposition::{Encoder, Format, source as encode};
use crate::ledger::Ledger;
use crate::source::Source;

/// The metrics of one source as of one poll, rendered.
#[derive(Debug)]
pub struct Page {
    /// The source's name.
    pub name: String,
    text: Rendered,
    openmetrics: Rendered,
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
            stale_at: read_at + lifetime,
            served: AtomicU64::new(0),
        }
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
}

impl Default for Published {
    fn default() -> Self {
        Self { began: Instant::now(), pages: ArcSwap::default() }
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
        let now = Instant::now();
        self.pages.load().iter().filter(|page| now < page.stale_at).cloned().collect()
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
