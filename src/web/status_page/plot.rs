//! The two small plots, as inline SVG coloured by the style sheet.

use std::collections::VecDeque;

use maud::{Markup, html};

use super::format;
use crate::snapshot::distribution::{Histogram, Quantile};
use crate::snapshot::poll_history::{SLOTS, Slot};

/// Bars for the polls of the last hour; `now` is the number of the slot that goes on.
pub fn timeline(slots: &VecDeque<Slot>, now: u64) -> Markup {
    const BAR: u64 = 5;
    const HEIGHT: f64 = 60.0;
    let longest = slots.iter().map(|slot| slot.longest.as_secs_f64()).fold(0.0, f64::max).max(1e-6);
    let first = (now + 1).saturating_sub(SLOTS);
    html! {
        svg.timeline viewBox={ "0 0 " (SLOTS * BAR) " " (HEIGHT) } preserveAspectRatio="none" role="img"
            aria-label="Duration of the polls of the last hour" {
            line.axis x1="0" y1=(HEIGHT - 0.5) x2=(SLOTS * BAR) y2=(HEIGHT - 0.5) {}
            @for slot in slots.iter().filter(|slot| slot.number >= first) {
                // Without a whole hour the bars stand on the right, where now is.
                @let x = (SLOTS - 1 - (now.saturating_sub(slot.number)).min(SLOTS - 1)) * BAR;
                // A failure can be over in no time, and is to be seen all the same.
                @let least = if slot.failed { 12.0 } else { 2.0 };
                @let height = (slot.longest.as_secs_f64() / longest * (HEIGHT - 6.0)).max(least);
                rect.bad[slot.failed] x=(x) y=(format!("{:.1}", HEIGHT - height)) width=(BAR - 1) height=(format!("{height:.1}")) {
                    title {
                        (format::duration(slot.longest)) @if slot.failed { ", failed" }
                    }
                }
            }
        }
    }
}

/// A distribution: a bar for each bucket, and where p50 and p95 lie.
pub fn histogram(histogram: &Histogram, unit: Option<&str>) -> Markup {
    const WIDTH: f64 = 360.0;
    const TOP: f64 = 18.0;
    const BASE: f64 = 104.0;
    let buckets = histogram.buckets();
    let step = WIDTH / buckets.len() as f64;
    let most = buckets.iter().copied().max().unwrap_or_default().max(1) as f64;
    let at = |i: usize| format!("{:.1}", i as f64 * step + 1.5);
    // The bounds are not evenly spaced, the bars are: within a bar the place is proportional.
    let place = |quantile: Quantile| match quantile {
        Quantile::Above(_) => WIDTH - step / 2.0,
        Quantile::At(value) => {
            let bucket = histogram.bounds.partition_point(|bound| *bound < value);
            let lower = bucket.checked_sub(1).map_or(0.0, |before| histogram.bounds[before]);
            let width = histogram.bounds.get(bucket).map_or(1.0, |upper| upper - lower);
            let part = if width > 0.0 { (value - lower) / width } else { 1.0 };
            (bucket as f64 + part) * step
        }
    };
    // Labels of many bars would run into each other.
    let every = buckets.len().div_ceil(9);
    html! {
        svg.histogram viewBox={ "0 0 " (WIDTH) " 122" } role="img" aria-label="Distribution" {
            line.axis x1="0" y1=(BASE + 0.5) x2=(WIDTH) y2=(BASE + 0.5) {}
            @for (i, count) in buckets.iter().enumerate() {
                @let height = *count as f64 / most * (BASE - TOP);
                @let height = if *count > 0 { height.max(1.5) } else { 0.0 };
                @let bound = histogram.bounds.get(i).map(|bound| format::value(*bound, unit));
                rect x=(at(i)) y=(format!("{:.1}", BASE - height)) width=(format!("{:.1}", step - 3.0)) height=(format!("{height:.1}")) {
                    title {
                        (format::count(*count)) " "
                        @match &bound { Some(bound) => { "≤ " (bound) }, None => "above" }
                    }
                }
                @if i % every == 0 || i + 1 == buckets.len() {
                    text.bound x=(format!("{:.1}", (i as f64 + 0.5) * step)) y="118" text-anchor="middle" {
                        (bound.as_deref().unwrap_or("more"))
                    }
                }
            }
            @for (name, part) in [("p50", 0.5), ("p95", 0.95)] {
                @if let Some(quantile) = histogram.quantile(part) {
                    @let x = place(quantile);
                    @let anchor = if x > WIDTH - 24.0 { "end" } else if x < 24.0 { "start" } else { "middle" };
                    line class=(name) x1=(format!("{x:.1}")) y1=(TOP - 4.0) x2=(format!("{x:.1}")) y2=(BASE) {}
                    text class=(name) x=(format!("{x:.1}")) y="10" text-anchor=(anchor) { (name) }
                }
            }
        }
    }
}

/// Horizontal bars: how a total is made up. Only the largest parts have one.
pub fn parts(parts: &[(String, f64)]) -> Markup {
    const MOST: usize = 6;
    let mut largest: Vec<_> = parts.iter().collect();
    largest.sort_by(|a, b| b.1.total_cmp(&a.1));
    let all = parts.iter().map(|(_, total)| total).sum::<f64>().max(1e-9);
    html! {
        ul.parts {
            @for (name, total) in largest.iter().take(MOST) {
                li {
                    span { (name) }
                    span.n { b { (format::number(*total)) } " " (format!("{:.1}", total / all * 100.0)) "\u{202f}%" }
                    svg viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true" {
                        rect.rail width="100" height="1" {}
                        rect width=(format!("{:.2}", total / all * 100.0)) height="1" {}
                    }
                }
            }
        }
        @if parts.len() > MOST { p.note { "… and " (parts.len() - MOST) " more" } }
    }
}

/// A quantile in words.
pub fn quantile(histogram: &Histogram, part: f64, unit: Option<&str>) -> String {
    match histogram.quantile(part) {
        None => "–".to_owned(),
        Some(Quantile::At(value)) if unit.is_none() => format::number((value * 10.0).round() / 10.0),
        Some(Quantile::At(value)) => format::value(value, unit),
        Some(Quantile::Above(bound)) => format!("> {}", format::value(bound, unit)),
    }
}
