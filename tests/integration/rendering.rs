//! What a page costs: counted in allocations and bytes, which are the same on every machine.

use std::sync::Arc;
use std::time::Duration;

use rsolv_exporter::exposition::Format;
use rsolv_exporter::ledger::decimal::Decimal;
use rsolv_exporter::ledger::missing::Moment;
use rsolv_exporter::ledger::{Group, Ledger};
use rsolv_exporter::published::Page;
use rsolv_exporter::source::Source;

use crate::counting::{Asked, counted};

/// Samples of one repository: 3 statuses, a histogram of 10, 4 sums.
const EACH: usize = 17;

/// One row of each status in each of so many repositories; the first id is `first`.
pub fn groups(source: &Source, repositories: i64, first: i64) -> Vec<Group> {
    let statuses = ["completed", "failed", "timeout"];
    let group = |i: i64| Group {
        set: vec![format!("acme/{}", 100_000 + i / 3), "javascript".into(), "express".into()],
        by: vec![statuses[(i % 3) as usize].into()],
        done: true,
        ids: vec![first + i],
        counts: vec![1; source.counts.len()],
        sums: vec![Decimal::not_below(1500.0); source.sums.len()],
        rejected: vec![0; source.values.len()],
        ..Group::default()
    };
    (0..3 * repositories).map(group).collect()
}

/// The ledger of the shipped validations with so many repositories.
pub fn ledger(repositories: i64) -> Ledger {
    let source = &Source::shipped().expect("sound definitions")[0];
    let mut ledger = Ledger::new(source.shape(1_000_000));
    let groups = groups(source, repositories, 1);
    let plan = ledger.plan(&[], 1_000_000);
    ledger.apply(&plan, None, groups, Moment::default()).expect("an answer that can be right");
    ledger
}

/// Its page.
pub fn page(repositories: i64) -> Arc<Page> {
    let source = Source::shipped().expect("sound definitions").remove(0);
    Page::new(source.into(), ledger(repositories).into(), false, tokio::time::Instant::now(), Duration::from_secs(300))
}

/// Renders a page with room for `size` bytes; returns what that asked for, samples, and bytes.
fn render(page: &Page, format: Format, size: usize) -> (Asked, usize, usize) {
    let (text, asked) = counted(|| page.render(format, size));
    let samples = String::from_utf8_lossy(&text).lines().filter(|line| !line.starts_with('#')).count();
    (asked, samples, text.len())
}

#[test]
fn no_series_costs_an_allocation() {
    let (small, large) = (page(600), page(6_000));
    for format in [Format::Text, Format::OpenMetrics] {
        let (few, few_samples, few_bytes) = render(&small, format, 0);
        let (many, samples, bytes) = render(&large, format, 0);
        // And an open gauge for each of two statuses, and a time that nothing has here.
        assert_eq!((few_samples, samples), (600 * EACH + 2, 6_000 * EACH + 2));
        // The text doubles its room a few times more.
        assert!(many.allocations <= few.allocations + 10, "{few:?} became {many:?}");
        assert!(many.allocations < 100, "{many:?}");
        let each = (bytes - few_bytes) as f64 / (samples - few_samples) as f64;
        assert!((100.0..130.0).contains(&each), "{each} bytes a sample");
        // A page that follows another has its room from the start.
        let (next, ..) = render(&large, format, bytes);
        assert!(next.allocations < 70 && next.bytes < bytes as u64 + 10_000, "{next:?} for {bytes} bytes");
    }
    // What the status page names are the largest series.
    let [few, many] = [&small, &large].map(|page| counted(|| _ = page.summary()).1.allocations);
    assert!(many < few + 50 && many < 3_000, "{few} allocations became {many}");
}
