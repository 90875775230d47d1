//! Outages: what breaks between the exporter and its database, and what must hold meanwhile and afterwards.

mod network;
mod patroni;
mod server;
mod source;
mod standby;
mod time;

use crate::support::database::Database;
use crate::support::execution::Validation;
use crate::support::exporter::Exporter;
use crate::support::metrics::Metrics;
use crate::support::proxy::Proxy;
use crate::support::source::Definitions;

/// Short times, so that an outage shows soon. A step that hangs does so for 2 s (connecting) or 3 s (a statement).
const FLAGS: [&str; 12] = [
    "--poll.interval",
    "500ms",
    "--poll.stale-after",
    "1500ms",
    "--series.birth-hold",
    "0s",
    "--database.connect-timeout",
    "2s",
    "--database.statement-timeout",
    "1s",
    "--database.lock-timeout",
    "300ms",
];
/// Memory that is not flat grows by more than this, in bytes.
const FLAT: f64 = 24e6;

/// An exporter that reads a database through a proxy, and what it has to have counted.
pub struct Trial<'c> {
    pub db: Database<'c>,
    pub proxy: Proxy,
    pub exporter: Exporter,
    repo: i64,
    pub inserted: f64,
    memory: f64,
}

impl<'c> Trial<'c> {
    /// One that has counted three validations, as the superuser.
    async fn start(db: Database<'c>, flags: &[&str]) -> Self {
        Self::start_as("postgres", db, flags).await
    }

    /// The same as another role.
    async fn start_as(role: &str, db: Database<'c>, flags: &[&str]) -> Self {
        let port = db.cluster().port();
        Self::launch(role, port, db, flags).await
    }

    /// The same, on the server at another port, which has the same database.
    async fn start_on(port: u16, db: Database<'c>, flags: &[&str]) -> Self {
        Self::launch("postgres", port, db, flags).await
    }

    pub async fn launch(role: &str, port: u16, db: Database<'c>, flags: &[&str]) -> Self {
        let proxy = Proxy::to(port);
        let url = db.url_through(proxy.port()).replace("postgres@", &format!("{role}@"));
        let repo = db.repository("RSOLV-dev/demo").await;
        let exporter = Exporter::start(&url, &[&FLAGS[..], flags].concat()).await;
        let mut trial = Self { db, proxy, exporter, repo, inserted: 0.0, memory: 0.0 };
        trial.insert(3).await;
        let metrics = trial.wait_counted().await;
        trial.memory = memory(&metrics);
        trial
    }

    /// Inserts validations, which are to be counted.
    pub async fn insert(&mut self, count: u32) {
        for _ in 0..count {
            self.db.insert(Validation::completed(self.repo, "{}")).await;
        }
        self.inserted += f64::from(count);
    }

    /// Waits until a poll has failed for `reason` and the data is withdrawn.
    pub async fn fails(&self, reason: &str) -> Metrics {
        let what = format!("a failure with reason {reason}, and no data");
        let metrics = self.exporter.wait_for(&what, |m| {
            m.value("rsolv_exporter_up", &[]) == Some(0.0)
                && m.failures(reason) > 0.0
                && m.matching("rsolv_validation_executions_total", &[]).next().is_none()
        });
        metrics.await
    }

    /// The database has just come back: waits until all that was inserted is counted, once, and looks back.
    pub async fn recovers(&self) {
        self.wait_counted().await;
        let metrics = self.exporter.wait_polls(2).await;
        assert_eq!(metrics.validations(), self.inserted, "counted twice");
        let growth = memory(&metrics) - self.memory;
        assert!(growth < FLAT, "memory grew by {growth} bytes");
        let connections = self.proxy.connections();
        assert!(connections.peak <= 1, "{connections:?}");
    }

    async fn wait_counted(&self) -> Metrics {
        let what = format!("{} validations", self.inserted);
        let counted = |m: &Metrics| m.is_up() && m.validations() == self.inserted;
        self.exporter.wait_for(&what, counted).await
    }

    /// How many log lines hold `text`.
    pub fn logged(&self, text: &str) -> usize {
        self.exporter.log().lines().filter(|line| line.contains(text)).count()
    }
}

fn memory(metrics: &Metrics) -> f64 {
    metrics.value("process_resident_memory_bytes", &[]).expect("a metric about memory")
}

/// One definition: the validations, as shipped except that reading a new row takes as many seconds as the table
/// `delay` says.
pub async fn slow_queries(db: &Database<'_>) -> Definitions {
    db.batch("CREATE TABLE delay (seconds float8); INSERT INTO delay VALUES (0)").await;
    let sql = "SELECT e.id, e.completed_at AT TIME ZONE 'UTC' AS at, e.status::text AS status,
                 (SELECT pg_sleep(seconds) IS NOT NULL FROM delay WHERE e.id > 0) AS done
               FROM validation_executions AS e";
    let toml = "labels = []\n[[counter]]\nname = \"rsolv_validation_executions_total\"\nhelp = \"Validations.\"\n\
                labels = [\"status\"]\n";
    Definitions::one("slow", sql, toml)
}
