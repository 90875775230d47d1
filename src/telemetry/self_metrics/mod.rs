//! The exporter's metrics about itself, in a `prometheus` registry.

#[cfg(target_os = "linux")]
mod process;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::ledger::Ledger;
use crate::postgres::Reason;
use crate::source::Source;
use crate::telemetry::build_info;

/// Handles on the exporter's own metrics. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// Grows with every change of what is in here, other than of the process.
    version: Arc<AtomicU64>,
    up: IntGauge,
    polls: IntCounter,
    poll_failures: IntCounterVec,
    last_poll_duration: Gauge,
    last_success: Gauge,
    snapshot_age: Gauge,
    web_config_reloaded: IntGauge,
    source_up: IntGaugeVec,
    source_last_success: GaugeVec,
    rejected: IntCounterVec,
    failed_rows: IntCounterVec,
    series: IntGaugeVec,
    overflowed: IntCounterVec,
    rows: IntCounterVec,
    gaps: IntGaugeVec,
    gaps_dropped: IntCounterVec,
    drift: IntCounterVec,
    rewinds: IntCounterVec,
    uncertain: IntCounterVec,
    late: IntCounterVec,
    state_up: IntGauge,
    state_failures: IntCounter,
    state_save_duration: Gauge,
}

impl Metrics {
    /// Registers everything, each series at 0.
    pub fn new(sources: &[Source]) -> Self {
        let registry = Registry::new();
        let metrics = Self {
            up: own(
                &registry,
                IntGauge::with_opts(opts("up", "Whether the last poll that should have ended read every source.")),
            ),
            polls: own(&registry, IntCounter::with_opts(opts("polls_total", "Polls begun."))),
            poll_failures: own(
                &registry,
                IntCounterVec::new(
                    opts("poll_failures_total", "Failures of polls and of sources in them."),
                    &["reason"],
                ),
            ),
            last_poll_duration: own(
                &registry,
                Gauge::with_opts(opts("last_poll_duration_seconds", "How long the last poll took.")),
            ),
            last_success: own(
                &registry,
                Gauge::with_opts(opts("last_success_timestamp_seconds", "When the last successful poll ended.")),
            ),
            snapshot_age: own(
                &registry,
                Gauge::with_opts(opts(
                    "snapshot_age_seconds",
                    "How far the last snapshot lagged behind the primary: on a standby that has more to replay, the age of \
                     the newest replayed commit; NaN when that is not known.",
                )),
            ),
            web_config_reloaded: unregistered(IntGauge::with_opts(opts(
                "web_config_last_reload_successful",
                "Whether the web configuration was good when it was last read.",
            ))),
            source_up: own(
                &registry,
                IntGaugeVec::new(opts("source_up", "Whether the last poll read the source."), &["source"]),
            ),
            source_last_success: own(
                &registry,
                GaugeVec::new(
                    opts("source_last_success_timestamp_seconds", "When a poll last read the source."),
                    &["source"],
                ),
            ),
            rejected: own(
                &registry,
                IntCounterVec::new(
                    opts("rejected_values_total", "Values left out because they are no number or out of bounds."),
                    &["source", "column"],
                ),
            ),
            failed_rows: own(
                &registry,
                IntCounterVec::new(
                    opts("failed_rows_total", "Rows on which the SELECT raised an error: left out, and tried again."),
                    &["source"],
                ),
            ),
            series: own(
                &registry,
                IntGaugeVec::new(
                    opts("series", "Sets of identifying labels, as series.limit limits them."),
                    &["source"],
                ),
            ),
            overflowed: own(
                &registry,
                IntCounterVec::new(
                    opts("series_overflowed_total", "Executions counted under __overflow__ because of series.limit."),
                    &["source"],
                ),
            ),
            rows: own(&registry, IntCounterVec::new(opts("rows_counted_total", "Executions counted."), &["source"])),
            gaps: own(
                &registry,
                IntGaugeVec::new(
                    opts("gaps", "Skipped ids that are being looked for; a wide range of them counts as one."),
                    &["source"],
                ),
            ),
            gaps_dropped: own(
                &registry,
                IntCounterVec::new(
                    opts(
                        "gaps_dropped_total",
                        "Skipped ids given up because there were too many, by whether a running transaction could still use them (unsettled).",
                    ),
                    &["source", "kind"],
                ),
            ),
            drift: own(
                &registry,
                IntCounterVec::new(
                    opts("drift_total", "Executions counted late, under ids that had been given up."),
                    &["source"],
                ),
            ),
            rewinds: own(
                &registry,
                IntCounterVec::new(opts("rewinds_total", "How often the ids of a table started again."), &["source"]),
            ),
            uncertain: own(
                &registry,
                IntCounterVec::new(
                    opts(
                        "uncertain_rows_total",
                        "Rows under ids that were handed out again, which only their time tells from rows counted before.",
                    ),
                    &["source"],
                ),
            ),
            late: own(
                &registry,
                IntCounterVec::new(
                    opts(
                        "late_rows_total",
                        "Executions counted late, which appeared further behind the newest one than late in the definition allows.",
                    ),
                    &["source"],
                ),
            ),
            state_up: unregistered(IntGauge::with_opts(opts("state_up", "Whether the state was saved last time."))),
            state_failures: unregistered(IntCounter::with_opts(opts(
                "state_save_failures_total",
                "Failures to save the state.",
            ))),
            state_save_duration: unregistered(Gauge::with_opts(opts(
                "state_save_duration_seconds",
                "How long the last attempt to save the state took.",
            ))),
            version: Arc::default(),
            registry,
        };
        let info = opts("build_info", "A constant 1, labelled with what the program was built from.");
        let info = info.const_label("version", build_info::VERSION).const_label("revision", build_info::REVISION);
        let info = info.const_label("date", build_info::DATE).const_label("rustc", build_info::RUSTC);
        own(&metrics.registry, IntGauge::with_opts(info)).set(1);
        #[cfg(target_os = "linux")]
        register(&metrics.registry, process::Process::this());
        for reason in Reason::ALL {
            metrics.poll_failures.with_label_values(&[reason.as_str()]);
        }
        for source in sources {
            metrics.source_up.with_label_values(&[&source.name]);
            metrics.rows_failed(source, 0);
            metrics.of(source, &Ledger::new(source.shape(1)));
        }
        metrics
    }

    /// A number that is another one after every change, other than of the process.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Counts a poll.
    pub fn poll_begins(&self) {
        self.polls.inc();
        self.changed();
    }

    /// Notes how long a poll took, and when it ended (seconds since the epoch) if it read every source.
    pub fn poll_ends(&self, took: Duration, success: Option<f64>) {
        self.up.set(i64::from(success.is_some()));
        self.last_poll_duration.set(took.as_secs_f64());
        if let Some(now) = success {
            self.last_success.set(now);
        }
        self.changed();
    }

    /// Notes that a poll has not ended when it should have.
    pub fn poll_is_overdue(&self) {
        self.up.set(0);
        self.changed();
    }

    /// Notes how far the last snapshot lagged behind the primary, in seconds; none when the server does not tell.
    pub fn snapshot_age(&self, age: Option<f64>) {
        self.snapshot_age.set(age.unwrap_or(f64::NAN));
        self.changed();
    }

    /// Notes whether the web configuration in force is the one in its file.
    pub fn web_config(&self, good: bool) {
        self.web_config_reloaded.set(i64::from(good));
        self.changed();
    }

    /// From now on there is a metric about the web configuration.
    pub fn serves_web(&self) {
        register(&self.registry, self.web_config_reloaded.clone());
    }

    /// From now on there are metrics about the state file.
    pub fn keeps_state(&self) {
        register(&self.registry, self.state_up.clone());
        register(&self.registry, self.state_failures.clone());
        register(&self.registry, self.state_save_duration.clone());
        self.changed();
    }

    /// Notes whether the state was saved, and how long that took.
    pub fn saved(&self, saved: bool, took: Duration) {
        self.state_save_duration.set(took.as_secs_f64());
        self.state_up.set(i64::from(saved));
        self.state_failures.inc_by(u64::from(!saved));
        self.changed();
    }

    /// Counts a failure.
    pub fn failed(&self, reason: Reason) {
        self.poll_failures.with_label_values(&[reason.as_str()]).inc();
        self.changed();
    }

    /// Notes whether a source was read, at `now` in seconds since the epoch.
    pub fn source(&self, source: &Source, read: bool, now: f64) {
        self.source_up.with_label_values(&[&source.name]).set(i64::from(read));
        if read {
            self.source_last_success.with_label_values(&[&source.name]).set(now);
        }
        self.changed();
    }

    /// Counts rows on which the SELECT of a source raised for the first time.
    pub fn rows_failed(&self, source: &Source, rows: usize) {
        self.failed_rows.with_label_values(&[&source.name]).inc_by(rows as u64);
        self.changed();
    }

    /// Takes over what the state knows of a source, which was read at `read_at` in seconds since the epoch.
    pub fn resumed(&self, source: &Source, ledger: &Ledger, read_at: f64) {
        self.source_last_success.with_label_values(&[&source.name]).set(read_at);
        self.of(source, ledger);
    }

    /// Takes over what the ledger knows. Its numbers only grow, as counters must.
    pub fn of(&self, source: &Source, ledger: &Ledger) {
        let name = [source.name.as_str()];
        let raise = |counter: &IntCounterVec, labels: &[&str], to: u64| {
            let counter = counter.with_label_values(labels);
            counter.inc_by(to.saturating_sub(counter.get()));
        };
        for (value, rejected) in source.values.iter().zip(ledger.rejected()) {
            raise(&self.rejected, &[name[0], &value.column], *rejected);
        }
        raise(&self.rows, &name, ledger.rows());
        raise(&self.overflowed, &name, ledger.overflowed());
        raise(&self.drift, &name, ledger.late());
        raise(&self.rewinds, &name, ledger.resets());
        raise(&self.uncertain, &name, ledger.uncertain());
        raise(&self.late, &name, ledger.keys().late());
        let (settled, unsettled) = ledger.frontier().missing().dropped();
        let settled = settled + ledger.keys().dropped();
        raise(&self.gaps_dropped, &[name[0], "settled"], settled);
        raise(&self.gaps_dropped, &[name[0], "unsettled"], unsettled);
        self.series.with_label_values(&name).set(ledger.sets().len() as i64);
        self.gaps.with_label_values(&name).set(i64::try_from(ledger.gaps()).unwrap_or(i64::MAX));
        self.changed();
    }

    /// Everything, for an exposition.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("rsolv_exporter_{name}"), help)
}

/// Makes and registers one of the exporter's own metrics.
fn own<C: Collector + Clone + 'static>(registry: &Registry, collector: prometheus::Result<C>) -> C {
    let collector = unregistered(collector);
    register(registry, collector.clone());
    collector
}

#[expect(
    clippy::expect_used,
    reason = "the names are constants above: every start, and so every test, would show a slip"
)]
fn unregistered<C>(collector: prometheus::Result<C>) -> C {
    collector.expect("the exporter's own metrics have valid names")
}

#[expect(clippy::expect_used, reason = "likewise: each constant name is registered once")]
fn register(registry: &Registry, collector: impl Collector + 'static) {
    registry.register(Box::new(collector)).expect("the exporter's own metrics have names of their own");
}
