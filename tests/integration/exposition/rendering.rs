//! What a page costs: counted in allocations and bytes, which are the same on every machine.

use std::sync::Arc;
use std::time::Duration;

use rsolv_exporter::exposition::Format;
use rsolv_exporter::ledger::decimal::Decimal;
use rsolv_exporter::ledger::missing::Moment;
use rsolv_exporter::ledger::{Group, Ledger};
use rsolv_exporter::snapshot::SourceSnapshot;
use rsolv_exporter::source::Source;

use crate::allocations::{Asked, counted};

/// Samples of one repository: 3 statuses, a histogram of 10, 5 other counters.
const EACH: usize = 18;

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
        values: vec![vec![1500.0]; source.natives.len()],
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
pub fn page(repositories: i64) -> Arc<SourceSnapshot> {
    let source = Source::shipped().expect("sound definitions").remove(0);
    SourceSnapshot::new(
        source.into(),
        ledger(repositories).into(),
        false,
        tokio::time::Instant::now(),
        Duration::from_secs(300),
        Arc::default(),
    )
}

/// Renders a page with room for `size` bytes; returns what that asked for, and bytes.
fn render(page: &SourceSnapshot, format: Format, size: usize) -> (Asked, usize) {
    let (rendered, asked) = counted(|| page.render(format, size));
    (asked, rendered.len())
}

fn samples(page: &SourceSnapshot) -> usize {
    let text = page.render(Format::Text, 0);
    String::from_utf8_lossy(&text).lines().filter(|line| !line.starts_with('#')).count()
}

#[test]
fn no_series_costs_an_allocation() {
    let (small, large) = (page(600), page(6_000));
    // And an open gauge for each of two statuses, and a time that nothing has here.
    assert_eq!((samples(&small), samples(&large)), (600 * EACH + 2, 6_000 * EACH + 2));
    for format in Format::ALL {
        let (few, few_bytes) = render(&small, format, 0);
        let (many, bytes) = render(&large, format, 0);
        // The page doubles its room a few times more; so does the largest family of protobuf.
        assert!(many.allocations <= few.allocations + 20, "{few:?} became {many:?}");
        assert!(many.allocations < 200, "{many:?}");
        let each = (bytes - few_bytes) as f64 / (5_400 * EACH) as f64;
        let expected = if format == Format::Protobuf { 30.0..50.0 } else { 100.0..130.0 };
        assert!(expected.contains(&each), "{each} bytes a sample of {format:?}");
        // A page that follows another has its room from the start.
        let (next, _) = render(&large, format, bytes);
        let family = if format == Format::Protobuf { bytes as u64 * 3 } else { 0 };
        assert!(next.allocations < 150 && next.bytes < bytes as u64 + family + 10_000, "{next:?} for {bytes} bytes");
    }
    // What the status page names are the largest series.
    let [few, many] = [&small, &large].map(|page| counted(|| _ = page.summary()).1.allocations);
    assert!(many < few + 50 && many < 3_000, "{few} allocations became {many}");
}
