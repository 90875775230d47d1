//! What a poll publishes: immutable pages, one for each source, swapped as a whole, and how polls went.
//!
//! A scrape never touches the database, and waits for no poll but for the moment in which the pages are swapped. What
//! scrapes have asked for of late is ready when a page is published; what is asked for rarely is made at the first request
//! for it.

pub mod distribution;
pub mod poll_history;
pub mod series;
mod source_snapshot;
mod store;
pub mod summary;
mod trend;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::exposition::Format;
pub use poll_history::{PollHistory, Trouble};
pub use source_snapshot::{Served, SourceSnapshot};
pub use store::SnapshotStore;
pub use trend::Totals;

/// The pages of one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// By source; also those that are stale.
    pub pages: Vec<Arc<SourceSnapshot>>,
    /// What the web has made of them, by format; it goes when they do.
    pub answers: [ArcSwapOption<CachedResponse>; Format::ALL.len()],
}

impl Snapshot {
    /// The pages that are not stale.
    pub fn fresh(&self) -> Vec<Arc<SourceSnapshot>> {
        self.pages.iter().filter(|page| page.is_fresh()).cloned().collect()
    }
}

/// What scrapes are answered with, until something in it changes.
#[derive(Debug)]
pub struct CachedResponse {
    /// The pages that are in it.
    pub pages: Vec<Arc<SourceSnapshot>>,
    /// The exposition, piece by piece.
    pub plain: Vec<Bytes>,
    /// The same, compressed, in one piece: it is small, and each piece costs.
    pub packed: OnceCell<Bytes>,
    /// The state of the exporter's own metrics that are in it.
    pub version: u64,
    /// Until then it can be given.
    pub until: Instant,
}
