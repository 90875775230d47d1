//! The command `once`: one poll, the exposition as a string.

use std::sync::Arc;

use crate::config::Settings;
use crate::db::Failure;
use crate::exposition::{Format, own};
use crate::metrics::Metrics;
use crate::poll::Poller;
use crate::published::Published;
use crate::source::Source;

/// Polls once and returns the exposition in text format, with the failure of a source that could not be read.
pub async fn run(settings: &Settings, sources: Vec<Source>) -> Result<(String, Option<Failure>), Failure> {
    let published = Arc::new(Published::default());
    let metrics = Metrics::new(&sources);
    let mut poller = Poller::new(settings, sources, metrics.clone(), published.clone());
    let failure = poller.poll().await.err();
    let pages = published.newest().fresh();
    if let (true, Some(failure)) = (pages.is_empty(), &failure) {
        return Err(failure.clone());
    }
    let mut encoder = Format::Text.encoder(false, 0);
    own::encode(encoder.as_mut(), &metrics.gather());
    let parts = pages.iter().map(|page| page.render(Format::Text, 0)).chain([encoder.finish().into()]);
    let text = parts.map(|part| String::from_utf8_lossy(&part).into_owned()).collect();
    Ok((text, failure))
}
