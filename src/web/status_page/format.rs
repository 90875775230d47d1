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
    crate::config::duration::short(span, "\u{202f}")
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
    crate::config::duration::of(value, unit).map_or_else(|| number(value), duration)
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
}
