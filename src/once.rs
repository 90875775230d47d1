//! The command `once`: one poll, the exposition as a string.

use std::sync::Arc;

use crate::config::Settings;
use crate::db::Failure;
use crate::exposition::{Encoder, Format, own};
use crate::metrics::Metrics;
use crate::poll::Poller;
use crate::published::Published;
use crate::source::Source;

/// Polls once and returns the exposition in text format, with the failure of a source that could not be read.
pub async fn run(settings: &Settings, sources: Vec<Source>) -> Result<(String, Option<Failure>), Failure> {
    if settings.state_file.is_some() {
        tracing::warn!("once counts what the tables hold: state.file is neither read nor written");
    }
    let published = Arc::new(Published::default());
    let metrics = Metrics::new(&sources);
    let mut poller = Poller::new(settings, sources, metrics.clone(), published.clone());
    let failure = poller.poll().await.err();
    let pages = published.newest().fresh();
    if let (true, Some(failure)) = (pages.is_empty(), &failure) {
        return Err(failure.clone());
    }
    let mut text: String =
        pages.iter().map(|page| String::from_utf8_lossy(&page.render(Format::Text, 0)).into_owned()).collect();
    let mut encoder = Encoder::new(Format::Text, false);
    own::encode(&mut encoder, &metrics.gather());
    text.push_str(&encoder.finish());
    Ok((text, failure))
}
