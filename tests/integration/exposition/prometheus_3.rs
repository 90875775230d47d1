//! What only a newer Prometheus can do; `make test-prometheus-3` runs this with one.

use crate::support::database::Database;
use crate::support::execution::Validation;
use crate::support::exporter::Exporter;
use crate::support::prometheus::Prometheus;
use crate::support::state::State;

const TOTAL: &str = "rsolv_validation_executions_total";
/// Without native histograms, Prometheus drops a histogram of protobuf that is one too, unless the job says this.
const KEEP_CLASSIC: &str = "  always_scrape_classic_histograms: true\n";
const COUNT: &str = "rsolv_validation_duration_milliseconds_count";

/// True if the Prometheus on PATH is at least this one; else says that the test does nothing.
fn is_at_least(version: (u32, u32)) -> bool {
    let found = Prometheus::version();
    if found < version {
        eprintln!(
            "skipped: Prometheus {found:?} is older than {version:?}; make test-prometheus-3 fetches a newer one"
        );
    }
    found >= version
}

async fn insert(database: &Database<'_>, repo: &str, count: usize) {
    let repo = database.repository(repo).await;
    let rows = (0..count).map(|_| String::from(Validation::completed(repo, "{}")));
    database.batch(&rows.collect::<Vec<_>>().join(";")).await;
}

/// What is added up between the samples of all series that a selector finds, the first one included if it is from a
/// start timestamp: 0 at the start.
async fn increase(prometheus: &Prometheus, selector: &str) -> f64 {
    let series = prometheus.samples(&format!("{selector}[1h]")).await;
    let of = |samples: &[(f64, f64)]| -> f64 { samples.windows(2).map(|w| (w[1].1 - w[0].1).max(0.0)).sum() };
    series.iter().map(|(_, samples)| of(samples)).sum()
}

async fn shows(prometheus: &Prometheus, selector: &str, value: f64) {
    let sum = format!("sum({selector})");
    prometheus.wait_for(&sum, |found| matches!(found, [(_, now)] if *now == value)).await;
}

#[tokio::test]
async fn start_timestamps_make_history_no_increase_and_first_events_one() {
    if !is_at_least((3, 0)) {
        return;
    }
    let (database, state) = (Database::new().await, State::new());
    insert(&database, "org/history", 30).await;
    let flags = ["--series.birth-hold", "0s", "--poll.interval", "100ms"];
    let mut exporter = state.exporter(&database, &flags).await;
    let address = exporter.address.clone();
    let prometheus = Prometheus::with_feature("created-timestamp-zero-ingestion", &address, KEEP_CLASSIC).await;
    let of = |name: &str, repo: &str| format!("{name}{{repo=\"{repo}\"}}");
    let history = of(TOTAL, "org/history");
    shows(&prometheus, &history, 30.0).await;
    assert_eq!(increase(&prometheus, &history).await, 0.0, "the first start");

    // Without a hold the first sample that Prometheus gets may have all three.
    insert(&database, "org/new", 3).await;
    shows(&prometheus, &of(TOTAL, "org/new"), 3.0).await;
    for name in [TOTAL, COUNT] {
        assert_eq!(increase(&prometheus, &of(name, "org/new")).await, 3.0, "{name}");
    }

    // One that has seen nothing yet knows from the start that three have happened since.
    let late = Prometheus::with_feature("created-timestamp-zero-ingestion", &address, KEEP_CLASSIC).await;
    shows(&late, &of(TOTAL, "org/new"), 3.0).await;
    assert_eq!(increase(&late, &of(TOTAL, "org/new")).await, 3.0);
    assert_eq!(increase(&late, &history).await, 0.0);

    // With the state file, and without it, when all is recounted.
    for keeps in [true, false] {
        exporter.kill9().await;
        let total = increase(&prometheus, &of(TOTAL, "org/new")).await + 1.0;
        insert(&database, "org/new", 1).await;
        let again = [&flags[..2], &["--web.listen-address", &address]].concat();
        exporter = if keeps {
            state.exporter_listening(&database, &again).await
        } else {
            let own = ["--database.url", &database.url(), "--poll.interval", "100ms"];
            Exporter::launch(&[&own, &again[..]].concat(), &[]).await.unwrap()
        };
        for prometheus in [&prometheus, &late] {
            shows(prometheus, &of(TOTAL, "org/new"), total).await;
            assert_eq!(increase(prometheus, &of(TOTAL, "org/new")).await, total, "state file: {keeps}");
            assert_eq!(increase(prometheus, &history).await, 0.0, "state file: {keeps}");
        }
    }
}
