//! Numbers and times for people.

use std::time::{Duration, SystemTime};

use maud::{Markup, html};

/// A narrow space that does not break, between groups of digits and before units.
const SPACE: char = '\u{202f}';

/// A number of things, grouped by thousands; fractions to two places.
pub fn number(value: f64) -> String {
    if !value.is_finite() || value.abs() >= 1e15 {
        return format!("{value:e}");
    }
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(w, f)| (w, Some(f)));
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(SPACE);
        }
        grouped.push(digit);
    }
    match fraction {
        Some(fraction) => format!("{grouped}.{fraction}"),
        None => grouped,
    }
}

/// A whole number of things.
pub fn count(value: u64) -> String {
    number(value as f64)
}

/// A span of time, to about three digits.
pub fn duration(span: Duration) -> String {
    let seconds = span.as_secs_f64();
    let parts = |large: u64, unit: char, small: u64, part: char| match small {
        0 => format!("{large}{SPACE}{unit}"),
        _ => format!("{large}{SPACE}{unit} {small}{SPACE}{part}"),
    };
    let whole = span.as_secs();
    match seconds {
        0.0 => format!("0{SPACE}s"),
        s if s < 0.001 => format!("{:.0}{SPACE}µs", s * 1e6),
        s if s < 0.01 => format!("{:.1}{SPACE}ms", s * 1e3),
        s if s < 1.0 => format!("{:.0}{SPACE}ms", s * 1e3),
        s if s < 10.0 && s.fract() > 0.05 => format!("{s:.1}{SPACE}s"),
        s if s < 60.0 => format!("{s:.0}{SPACE}s"),
        s if s < 3600.0 => parts(whole / 60, 'm', whole % 60, 's'),
        s if s < 86_400.0 => parts(whole / 3600, 'h', whole % 3600 / 60, 'm'),
        _ => parts(whole / 86_400, 'd', whole % 86_400 / 3600, 'h'),
    }
}

/// A span of time that grows, which the page's script counts on.
pub fn age(span: Duration) -> Markup {
    html! { span data-age=(span.as_secs()) { (duration(if span.as_secs() > 0 { Duration::from_secs(span.as_secs()) } else { span })) } }
}

/// The time since a moment, likewise.
pub fn since(moment: SystemTime) -> Markup {
    age(moment.elapsed().unwrap_or_default())
}

/// A span of time that shrinks, likewise.
pub fn left(span: Duration) -> Markup {
    html! { span data-left=(span.as_secs()) { (duration(Duration::from_secs(span.as_secs()))) } }
}

/// A value of a metric with this unit.
pub fn value(value: f64, unit: Option<&str>) -> String {
    let seconds = match unit {
        Some("seconds") => value,
        Some("milliseconds") => value / 1000.0,
        _ => return number(value),
    };
    Duration::try_from_secs_f64(seconds).map_or_else(|_| number(value), duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let shown = [0.0, 7.0, 999.0, 1000.0, 1_234_567.0, -1234.5, 0.125, 1e20].map(number);
        assert_eq!(
            shown.map(|s| s.replace(SPACE, "_")),
            ["0", "7", "999", "1_000", "1_234_567", "-1_234.5", "0.12", "1e20"]
        );
    }

    #[test]
    fn times_are_short() {
        let shown = [0.0, 0.000_012, 0.0042, 0.85, 1.2, 5.0, 42.4, 125.0, 120.0, 11_100.0, 90_000.0];
        let shown = shown.map(|s| duration(Duration::from_secs_f64(s)).replace(SPACE, ""));
        assert_eq!(shown, ["0s", "12µs", "4.2ms", "850ms", "1.2s", "5s", "42s", "2m 5s", "2m", "3h 5m", "1d 1h"]);
        assert_eq!(value(5000.0, Some("milliseconds")).replace(SPACE, ""), "5s");
        assert_eq!(value(90.0, None), "90");
    }
}
