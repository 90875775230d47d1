//! Wall time, for timestamps that people and Prometheus see. Everything else goes by tokio's clock, which tests can pause.

use std::time::{SystemTime, UNIX_EPOCH};

/// Tells wall time: the system's, or in a test one that stands still.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    fixed: Option<SystemTime>,
}

impl Clock {
    /// A clock that stands still.
    pub fn fixed(at: SystemTime) -> Self {
        Self { fixed: Some(at) }
    }

    /// The time.
    #[expect(clippy::disallowed_methods, reason = "this is where wall time is read")]
    pub fn now(&self) -> SystemTime {
        self.fixed.unwrap_or_else(SystemTime::now)
    }

    /// The time in seconds since the epoch.
    pub fn seconds(&self) -> f64 {
        self.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    }

    /// The time in milliseconds since the epoch.
    pub fn milliseconds(&self) -> i64 {
        let since = self.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}
