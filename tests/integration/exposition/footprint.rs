//! What scrapes, copies of the ledger and the state file cost: counted, as it is the same on every machine.

use std::sync::Arc;

use hyper::Request;
use rsolv_exporter::ledger::missing::Moment;
use rsolv_exporter::ledger::{Group, Ledger};
use rsolv_exporter::snapshot::SnapshotStore;
use rsolv_exporter::source::Source;
use rsolv_exporter::state::{Fingerprint, Saved, State, StateFile};
use rsolv_exporter::telemetry::self_metrics::Metrics;
use rsolv_exporter::web::{AccessControl, AppState, Client};

use super::rendering::{groups, ledger, page};
use crate::allocations::{Asked, counted};

/// What the thread that serves asks for when nothing has changed since the last scrape. The clock stands still.
async fn scrape(repositories: i64, accept: &str, coding: &str) -> Asked {
    let published = Arc::new(SnapshotStore::default());
    published.publish(vec![page(repositories)], || ());
    let gate = Arc::new(AccessControl::open(None).expect("nothing to protect"));
    let sources = Source::shipped().expect("sound definitions");
    let site = AppState {
        published,
        metrics: Metrics::new(&sources),
        telemetry_path: "/metrics".into(),
        sources,
        user: String::new(),
        settings: Vec::new(),
        show_details: false,
        access: gate.clone(),
    };
    let request = Request::builder()
        .uri("/metrics")
        .header("host", "localhost")
        .header("accept", accept)
        .header("accept-encoding", coding);
    let request = request.body(()).expect("a request");
    let client = Client { address: ([127, 0, 0, 1], 1).into(), is_certified: false };
    let protection = gate.current();
    let respond = || async { site.respond(&request, client, &protection).await };
    assert_eq!(respond().await.status(), 200);
    let (response, asked) = counted(|| at_once(respond()));
    assert_eq!(response.status(), 200);
    asked
}

/// The result of what has nothing to wait for.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(result) => result,
        std::task::Poll::Pending => panic!("a scrape waits, although nothing has changed"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_scrape_costs_the_same_however_many_series_there_are() {
    for accept in ["text/plain", "application/openmetrics-text"] {
        for coding in ["identity", "gzip"] {
            let (few, many) = (scrape(6, accept, coding).await, scrape(600, accept, coding).await);
            println!("{accept} {coding}: {few:?}");
            assert_eq!(few, many, "{accept} {coding}");
            assert!(few.allocations <= 25 && few.bytes < 4_000, "{few:?} for {accept} {coding}");
        }
    }
}

#[test]
fn a_copy_of_a_ledger_shares_its_totals() {
    let [few, many] = [200, 1_200].map(|repositories| {
        let mut ledger = Arc::new(ledger(repositories));
        // As the page of the last poll does.
        let page = ledger.clone();
        let source = &Source::shipped().expect("sound definitions")[0];
        let group = groups(source, 1, 100_000).remove(0);
        let plan = ledger.plan(&[], 100);
        let more = || Arc::make_mut(&mut ledger).apply(&plan, None, vec![group], Moment::default());
        let (_, asked) = counted(|| more().expect("one more row"));
        assert_eq!((ledger.rows() - page.rows(), ledger.sets().len()), (1, page.sets().len()));
        asked
    });
    let sets = 1_200.0 - 200.0;
    let allocations = (many.allocations - few.allocations) as f64 / sets;
    let bytes = (many.bytes - few.bytes) as f64 / sets;
    println!("a set: {allocations:.2} allocations, {bytes:.0} bytes");
    assert!(allocations < 5.0 && bytes < 200.0, "{allocations} allocations and {bytes} bytes a set");
}

/// How large the state file is with so many repositories and open rows.
fn state_bytes(repositories: i64, open: i64) -> u64 {
    let source = &Source::shipped().expect("sound definitions")[0];
    let mut ledger = ledger(repositories);
    let rows =
        Group { done: false, ids: (0..open).map(|i| 1_000_000 + 3 * i).collect(), ..groups(source, 1, 0).remove(0) };
    ledger.apply(&ledger.plan(&[], 1_000_000), None, vec![rows], Moment::default()).expect("open rows");
    let saved = Saved { fingerprint: Fingerprint::of(source).into(), ledger: ledger.into(), read_at: 0.0 };
    let state = State { sources: [(source.name.clone(), saved)].into(), ..State::default() };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    StateFile::lock(&path).and_then(|file| file.save(&state)).expect("a state file");
    std::fs::metadata(&path).expect("the state file").len()
}

#[test]
fn the_state_file_grows_with_series_and_open_rows_alone() {
    let start = state_bytes(300, 300);
    let [series, more_series] = [600, 1_200].map(|repositories| state_bytes(repositories, 300) - start);
    let [open, more_open] = [600, 1_200].map(|open| state_bytes(300, open) - start);
    println!("300 repositories {series} bytes, 300 open rows {open} bytes");
    // The 400 rows that are remembered have larger ids when there are more, with more digits.
    assert!(
        more_series.abs_diff(3 * series) < 3_000 && more_open.abs_diff(3 * open) < 50,
        "{more_series}, {more_open}"
    );
    // 17 samples a repository, and a native histogram for each of its three statuses; an open row takes its place in a bitmap, and so do the two ids beside it.
    assert!(series / 300 < 17 * 30 + 3 * 60 && open / 300 <= 8, "{series} and {open} bytes for 300 more");
    // Rows that are counted leave no trace of their own.
    let ledger = |rows| {
        let source = &Source::shipped().expect("sound definitions")[0];
        let mut ledger = Ledger::new(source.shape(10));
        let group = Group { ids: (1..=rows).collect(), ..groups(source, 1, 0).remove(0) };
        ledger.apply(&ledger.plan(&[], 1_000_000), None, vec![group], Moment::default()).expect("rows");
        serde_json::to_string(&ledger).expect("JSON").len()
    };
    // But for some hundred that are remembered.
    let (few, many, more) = (ledger(9), ledger(9_000), ledger(900_000));
    assert!(many < few + 400 * 40 && more < many + 400 * 5, "{few}, {many}, {more}");
}
