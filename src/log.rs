//! Where log lines go, and how they look.

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, fmt};

use crate::config::{Log, LogFormat};

/// Starts logging to standard error, for the whole process.
pub fn start(log: Log) {
    // A second start in one process is a test's: the first one stays.
    let _ = match log.format {
        LogFormat::Logfmt => {
            let layer = tracing_logfmt::builder().with_target(false).with_span_name(false).layer();
            tracing::subscriber::set_global_default(
                Registry::default().with(log.level).with(layer.with_writer(std::io::stderr)),
            )
        }
        LogFormat::Json => {
            let layer = fmt::layer().json().flatten_event(true).with_target(false).with_writer(std::io::stderr);
            tracing::subscriber::set_global_default(Registry::default().with(log.level).with(layer))
        }
    };
}
