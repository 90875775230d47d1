//! What scrapes are answered with: the pages and the exporter's own metrics, put together once for all of them.

use std::sync::Arc;

use bytes::Bytes;
use prometheus::proto::{Gauge, MetricFamily};
use tokio::sync::OnceCell;
use tokio::task::JoinError;
use tokio::time::{Duration, Instant};

use super::{SnapshotStore, SourceSnapshot};
use crate::exposition::{Format, gzip, own};
use crate::telemetry::self_metrics::Metrics;

/// The metrics of the process, which change all the time, are read at most this often.
const READ_PROCESS: Duration = Duration::from_secs(1);

/// What scrapes are answered with, until something in it changes.
#[derive(Debug)]
pub struct CachedResponse {
    /// The pages that are in it.
    pages: Vec<Arc<SourceSnapshot>>,
    format: Format,
    /// The exposition, piece by piece.
    plain: Vec<Bytes>,
    /// The same, compressed, in one piece: it is small, and each piece costs.
    packed: OnceCell<Bytes>,
    /// The state of the exporter's own metrics that are in it.
    version: u64,
    /// Until then it can be given.
    until: Instant,
}

impl SnapshotStore {
    /// The last response, or a new one when something has changed since; complete is one with a page of each of so many
    /// `sources`.
    ///
    /// # Errors
    /// Fails only when the process ends.
    pub async fn response(
        &self,
        format: Format,
        metrics: &Metrics,
        sources: usize,
    ) -> Result<Arc<CachedResponse>, JoinError> {
        let now = Instant::now();
        let last = self.newest().responses[format as usize].load_full();
        let version = metrics.version();
        if let Some(response) = last.filter(|response| response.version == version && now < response.until) {
            return Ok(response);
        }
        // The version is read before the metrics: what changes meanwhile makes another response.
        let (newest, (version, families)) = self.together(|| (metrics.version(), metrics.gather()));
        let pages = newest.fresh();
        let until = pages.iter().map(|page| page.stale_at).chain([now + READ_PROCESS]).min().unwrap_or(now);
        let mut plain = Vec::with_capacity(pages.len() + 1);
        for page in &pages {
            plain.push(page.rendered(format).await?.plain.clone());
        }
        plain.push(of_exporter(families, format, pages.len() == sources));
        let response = CachedResponse { pages, format, plain, packed: OnceCell::new(), version, until };
        let response = Arc::new(response);
        newest.responses[format as usize].store(Some(response.clone()));
        Ok(response)
    }

    /// Notes that a response is on its way.
    pub fn mark_scraped(&self, response: &CachedResponse) {
        response.pages.iter().for_each(|page| page.mark.set(self.now()));
    }
}

impl CachedResponse {
    /// The exposition, piece by piece.
    pub fn plain(&self) -> impl Iterator<Item = Bytes> {
        self.plain.iter().cloned()
    }

    /// The exposition, compressed.
    ///
    /// # Errors
    /// Fails only when the process ends.
    pub async fn packed(&self) -> Result<Bytes, JoinError> {
        let pack = async || {
            let mut parts = Vec::with_capacity(self.pages.len());
            for page in &self.pages {
                parts.push(page.rendered(self.format).await?.packed().await?.clone());
            }
            Ok(Bytes::from(gzip::member(&parts, self.plain.last().map_or(&[], |own| own)).concat()))
        };
        self.packed.get_or_try_init(pack).await.cloned()
    }
}

/// The exporter's own metrics, with the end mark; when data is withdrawn, it is not up.
fn of_exporter(mut families: Vec<MetricFamily>, format: Format, complete: bool) -> Bytes {
    if !complete {
        // Only in this response: the gauge itself belongs to the poller, which may be setting it right now.
        let up = families.iter_mut().filter(|family| family.name() == "rsolv_exporter_up");
        up.flat_map(|family| family.mut_metric()).for_each(|metric| metric.set_gauge(Gauge::default()));
    }
    let mut encoder = format.encoder(false, 0);
    own::encode(encoder.as_mut(), &families);
    [encoder.finish().as_slice(), format.end().as_bytes()].concat().into()
}
