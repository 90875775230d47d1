//! The metrics of one source as of one poll, rendered once in what scrapes ask for.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::sync::OnceCell;
use tokio::task::JoinError;
use tokio::time::{Duration, Instant};

use crate::exposition::Format;
use crate::exposition::gzip::Part;
use crate::ledger::Ledger;
use crate::ledger::zero_hold::ScrapeMark;
use crate::snapshot::series;
use crate::snapshot::summary::{self, Summary};
use crate::source::Source;

/// The metrics of one source as of one poll.
#[derive(Debug)]
pub struct SourceSnapshot {
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
    /// When it first was in a response.
    pub mark: Arc<ScrapeMark>,
}

/// A page in one format.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The page itself, without an end mark.
    pub plain: Bytes,
    /// The same, compressed.
    packed: Arc<OnceCell<Part>>,
}

impl Rendered {
    /// The page compressed; the first to ask compresses it, away from the threads that serve. Fails only when the
    /// process ends.
    pub async fn packed(&self) -> Result<&Part, JoinError> {
        let plain = self.plain.clone();
        filled(&self.packed, move || Part::new(&plain)).await
    }
}

impl SourceSnapshot {
    /// The page of a source; `created` says whether OpenMetrics carries `_created`. It may be shown for `lifetime`, and a
    /// response with it sets the `mark`.
    pub fn new(
        source: Arc<Source>,
        ledger: Arc<Ledger>,
        created: bool,
        read_at: Instant,
        lifetime: Duration,
        mark: Arc<ScrapeMark>,
    ) -> Arc<Self> {
        Arc::new(Self {
            source,
            ledger,
            created,
            rendered: Default::default(),
            summary: OnceLock::new(),
            read_at,
            stale_at: read_at + lifetime,
            mark,
        })
    }

    /// True if it may still be shown as metrics.
    pub fn is_fresh(&self) -> bool {
        Instant::now() < self.stale_at
    }

    /// Renders the page, which takes about `size` bytes.
    pub fn render(&self, format: Format, size: usize) -> Bytes {
        let mut encoder = format.encoder(self.created, size);
        series::encode(encoder.as_mut(), &self.source, &self.ledger);
        encoder.finish().into()
    }

    /// The page in a format; the first to ask renders it, away from the threads that serve.
    ///
    /// # Errors
    /// Fails only when the process ends.
    pub async fn rendered(self: &Arc<Self>, format: Format) -> Result<&Rendered, JoinError> {
        self.rendered_like(format, None).await
    }

    /// As [`Self::rendered`]; `last` is the one before, from which the size is guessed.
    pub(super) async fn rendered_like(
        self: &Arc<Self>,
        format: Format,
        last: Option<&Self>,
    ) -> Result<&Rendered, JoinError> {
        let last = last.and_then(|last| last.rendered[format as usize].get()).map_or(0, |last| last.plain.len());
        let page = self.clone();
        // Pages grow slowly.
        let render = move || Rendered { plain: page.render(format, last + last / 64), packed: Arc::default() };
        filled(&self.rendered[format as usize], render).await
    }

    /// The totals of its metrics, as [`summary::totals`] has them.
    pub fn totals(&self) -> Vec<f64> {
        summary::totals(&self.source, &self.ledger)
    }

    /// The page for people.
    pub fn summary(&self) -> &Summary {
        self.summary.get_or_init(|| Summary::new(&self.source, &self.ledger))
    }
}

/// What is in a cell; the first to ask fills it, away from the threads that serve. The work goes on when who asked has
/// gone, so that clients that hang up at once cannot start it again and again. Fails only when the process ends.
#[expect(clippy::expect_used, reason = "the cell was filled just before, and nothing empties it")]
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
