//! Spans of time as people write them. Pure.

use std::time::Duration;

/// A span of time to about three digits, with `space` between numbers and units: `4.5 s`, `1 m 52 s`, `3 h 5 m`.
pub fn short(span: Duration, space: &str) -> String {
    let parts = |large: u64, unit: char, small: u64, part: char| match small {
        0 => format!("{large}{space}{unit}"),
        _ => format!("{large}{space}{unit} {small}{space}{part}"),
    };
    let whole = span.as_secs();
    match span.as_secs_f64() {
        0.0 => format!("0{space}s"),
        s if s < 0.001 => format!("{:.0}{space}µs", s * 1e6),
        s if s < 0.01 => format!("{:.1}{space}ms", s * 1e3),
        s if s < 1.0 => format!("{:.0}{space}ms", s * 1e3),
        s if s < 10.0 => format!("{}{space}s", trimmed(format!("{s:.2}"))),
        s if s < 60.0 => format!("{}{space}s", trimmed(format!("{s:.1}"))),
        s if s < 3600.0 => parts(whole / 60, 'm', whole % 60, 's'),
        s if s < 86_400.0 => parts(whole / 3600, 'h', whole % 3600 / 60, 'm'),
        _ => parts(whole / 86_400, 'd', whole % 86_400 / 3600, 'h'),
    }
}

/// A decimal without zeros at its end.
fn trimmed(decimal: String) -> String {
    decimal.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A value of a metric with this unit as a span of time; none if it is not one.
pub fn of(value: f64, unit: Option<&str>) -> Option<Duration> {
    let seconds = match unit {
        Some("seconds") => value,
        Some("milliseconds") => value / 1000.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        let spans = [0.0, 0.000_012, 0.0042, 0.85, 1.2, 5.0, 42.4, 125.0, 120.0, 11_100.0, 90_000.0];
        let shown = spans.map(|s| short(Duration::from_secs_f64(s), ""));
        assert_eq!(shown, ["0s", "12µs", "4.2ms", "850ms", "1.2s", "5s", "42.4s", "2m 5s", "2m", "3h 5m", "1d 1h"]);
        assert_eq!(of(5000.0, Some("milliseconds")), of(5.0, Some("seconds")));
        assert_eq!((of(1.0, None), of(-1.0, Some("seconds"))), (None, None));
    }
}
