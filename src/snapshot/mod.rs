//! What a poll publishes: immutable pages, one for each source, swapped as a whole, and how polls went.
//!
//! A scrape never touches the database, and waits for no poll but for the moment in which the pages are swapped. What
//! scrapes have asked for of late is ready when a page is published; what is asked for rarely is made at the first request
//! for it.

mod cached_response;
pub mod distribution;
pub mod poll_history;
pub mod series;
mod source_snapshot;
mod store;
pub mod summary;
mod trend;

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::exposition::Format;
pub use cached_response::CachedResponse;
pub use poll_history::{PollHistory, Trouble};
pub use source_snapshot::SourceSnapshot;
pub use store::SnapshotStore;
pub use trend::Totals;

/// The pages of one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// By source; also those that are stale.
    pub pages: Vec<Arc<SourceSnapshot>>,
    /// What scrapes are answered with, by format; it goes when the pages do.
    responses: [ArcSwapOption<CachedResponse>; Format::ALL.len()],
}

impl Snapshot {
    /// The pages that are not stale.
    pub fn fresh(&self) -> Vec<Arc<SourceSnapshot>> {
        self.pages.iter().filter(|page| page.is_fresh()).cloned().collect()
    }
}
