//! What it takes to render a page: counted in allocations and bytes, which are the same on every machine.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use rsolv_exporter::exposition::Format;
use rsolv_exporter::ledger::{Group, Ledger, Probe};
use rsolv_exporter::published::Page;
use rsolv_exporter::source::Source;

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system's allocator as it is; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: likewise.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: likewise.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Renders both formats and the summary of the shipped validations with so many repositories; returns allocations,
/// samples of one format, and bytes of it.
fn render(repositories: i64) -> (u64, usize, usize) {
    let source = Source::shipped().expect("sound definitions").remove(0);
    let mut ledger = Ledger::new(source.shape(1_000_000));
    let statuses = ["completed", "failed", "timeout"];
    let groups = (0..3 * repositories).map(|i| Group {
        set: vec![format!("acme/{}", 100_000 + i / 3), "javascript".into(), "express".into()],
        by: vec![statuses[(i % 3) as usize].into()],
        done: true,
        ids: vec![i + 1],
        counts: vec![1; source.counts.len()],
        sums: vec![1500.0; source.sums.len()],
        rejected: vec![0; source.values.len()],
        ..Group::default()
    });
    let groups = groups.collect();
    ledger.apply(&Probe { limit: 1_000_000, ..Probe::default() }, groups, 1).expect("an answer that can be right");
    let before = ALLOCATIONS.get();
    let started = std::time::Instant::now();
    let page = Page::render(&source, &ledger, false, tokio::time::Instant::now(), Duration::from_secs(300));
    let (allocations, took) = (ALLOCATIONS.get() - before, started.elapsed());
    let text = String::from_utf8_lossy(&page.rendered(Format::Text).plain);
    let samples = text.lines().filter(|line| !line.starts_with('#')).count();
    println!("{samples} samples of {} bytes, both formats: {allocations} allocations, {took:?}", text.len());
    (allocations, samples, text.len())
}

#[test]
fn no_series_costs_an_allocation() {
    let (few, few_samples, few_bytes) = render(600);
    let (many, samples, bytes) = render(6_000);
    // Per repository 3 statuses, a histogram of 10, 4 sums; and an open gauge for each of two statuses, and a time
    // that nothing has here.
    assert_eq!((few_samples, samples), (600 * 17 + 2, 6_000 * 17 + 2));
    // Buffers double a few times more; what there is at all are the largest series, by name, for the status page.
    assert!(many < few + 100, "{few} allocations became {many}");
    assert!(many < 3_000, "{many} allocations");
    let each = (bytes - few_bytes) as f64 / (samples - few_samples) as f64;
    assert!((100.0..130.0).contains(&each), "{each} bytes a sample");
}
