//! Micro-benchmarks: a ledger that takes a poll's answer, the statement of a poll, the encoders, the state file.
//!
//! `make bench` runs it; `cargo bench --bench parts -- ledger` runs some. Allocations say more than times.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a measurement that cannot go on ends"
)]

use std::sync::Arc;
use std::time::Duration;

use divan::{AllocProfiler, Bencher};
use rsolv_exporter::exposition::Format;
use rsolv_exporter::exposition::gzip::Part;
use rsolv_exporter::ledger::decimal::Decimal;
use rsolv_exporter::ledger::frontier::ReadPlan;
use rsolv_exporter::ledger::missing::Moment;
use rsolv_exporter::ledger::{Group, Ledger};
use rsolv_exporter::snapshot::SourceSnapshot;
use rsolv_exporter::source::Source;
use rsolv_exporter::sql::{self, Column, ColumnType, Columns};
use rsolv_exporter::state::{Fingerprint, Saved, State, StateFile};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

/// Repositories; each makes 18 samples of validations.
const REPOSITORIES: [i64; 2] = [118, 5_883];

fn main() {
    divan::main();
}

fn source() -> Source {
    Source::shipped().expect("sound definitions").remove(0)
}

/// Rows of so many repositories, one of each status; the first id is `first`.
fn groups(source: &Source, repositories: i64, first: i64) -> Vec<Group> {
    let group = |i: i64| Group {
        set: vec![format!("acme/service-{}", i / 3), "javascript".into(), "express".into()],
        by: vec![["completed", "failed", "timeout"][(i % 3) as usize].into()],
        done: true,
        ids: vec![first + i],
        counts: vec![1 + i as u64 % 1000; source.counts.len()],
        sums: vec![Decimal::not_below(i as f64 * 1.5); source.sums.len()],
        rejected: vec![0; source.values.len()],
        values: vec![vec![i as f64 * 1.5]; source.natives.len()],
        ..Group::default()
    };
    (0..3 * repositories).map(group).collect()
}

fn ledger(source: &Source, repositories: i64) -> Ledger {
    let mut ledger = Ledger::new(source.shape(10_000));
    let plan = ledger.plan(&[], 1_000_000);
    ledger.apply(&plan, None, groups(source, repositories, 1), Moment::default()).expect("an answer that can be right");
    ledger
}

fn page(repositories: i64) -> Arc<SourceSnapshot> {
    let source = source();
    let ledger = ledger(&source, repositories);
    let now = tokio::time::Instant::now();
    SourceSnapshot::new(source.into(), ledger.into(), false, now, Duration::from_secs(300), Arc::default())
}

/// A poll with 99 new rows, while the last page shares the ledger.
#[divan::bench(args = REPOSITORIES)]
fn ledger_applies(bencher: Bencher<'_, '_>, repositories: i64) {
    let source = source();
    let ledger = Arc::new(ledger(&source, repositories));
    let plan = ledger.plan(&[], 20_000);
    let answer = || (ledger.clone(), groups(&source, 33, 1_000_000));
    bencher.with_inputs(answer).bench_values(|(mut ledger, groups)| {
        Arc::make_mut(&mut ledger).apply(&plan, None, groups, Moment::default()).expect("new rows");
        ledger
    });
}

/// The statement of a poll that reads so many ranges.
#[divan::bench(args = [0, 1_000])]
fn statement(bencher: Bencher<'_, '_>, gaps: i64) {
    let source = source();
    let kind = |column: &str| match column {
        "done" => ColumnType::Boolean,
        column if column == "id" || source.values.iter().any(|v| v.column == column) => ColumnType::Number,
        _ => ColumnType::Text,
    };
    let column = |name: &str| Column { kind: kind(name), type_name: String::new() };
    let columns: Columns = source.columns().into_keys().map(|name| (name.to_owned(), column(name))).collect();
    let ranges = (0..gaps).map(|i| (i * 10, i * 10 + 3, None)).collect();
    let plan = ReadPlan { ranges, limit: 20_000, ..ReadPlan::default() };
    bencher.bench(|| sql::poll(&source, &columns, &plan));
}

#[divan::bench(args = REPOSITORIES)]
fn text(bencher: Bencher<'_, '_>, repositories: i64) {
    encode(bencher, repositories, Format::Text);
}

#[divan::bench(args = REPOSITORIES)]
fn openmetrics(bencher: Bencher<'_, '_>, repositories: i64) {
    encode(bencher, repositories, Format::OpenMetrics);
}

#[divan::bench(args = REPOSITORIES)]
fn protobuf(bencher: Bencher<'_, '_>, repositories: i64) {
    encode(bencher, repositories, Format::Protobuf);
}

/// As for the page that follows another one.
fn encode(bencher: Bencher<'_, '_>, repositories: i64, format: Format) {
    let page = page(repositories);
    let size = page.render(format, 0).len();
    bencher.counter(divan::counter::BytesCount::new(size)).bench(|| page.render(format, size));
}

#[divan::bench(args = REPOSITORIES)]
fn gzip(bencher: Bencher<'_, '_>, repositories: i64) {
    let plain = page(repositories).render(Format::OpenMetrics, 0);
    bencher.counter(divan::counter::BytesCount::new(plain.len())).bench(|| Part::new(&plain));
}

/// With both fsyncs.
#[divan::bench(args = REPOSITORIES)]
fn state_file(bencher: Bencher<'_, '_>, repositories: i64) {
    let source = source();
    let ledger = Arc::new(ledger(&source, repositories));
    let saved = Saved { fingerprint: Fingerprint::of(&source).into(), ledger, read_at: 0.0 };
    let state = State { sources: [(source.name.clone(), saved)].into(), ..State::default() };
    let folder = tempfile::tempdir().expect("a folder");
    let file = StateFile::lock(&folder.path().join("state")).expect("its lock");
    bencher.bench(|| file.save(&state).expect("it is saved"));
}
