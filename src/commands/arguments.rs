//! Arguments that several commands take.

use std::time::Duration;

use clap::Arg;

/// `--since DURATION`.
pub fn since() -> Arg {
    Arg::new("since").long("since").value_name("DURATION").value_parser(duration)
}

/// Parses a duration such as `24h`.
///
/// # Errors
/// Says how durations are written.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("{e}; such as 30m, 24h or 30d"))
}
