//! A real Alertmanager that notifies what a test receives.

use std::collections::BTreeMap;
use std::time::Instant;

use super::daemon::Daemon;
use super::failure::Result;
use super::process::{PATIENCE, TICK};

/// Whether each alert is held back by another one, by name.
pub type Inhibited = BTreeMap<String, bool>;

/// A running Alertmanager, killed when dropped.
pub struct Alertmanager {
    /// Where it listens, `127.0.0.1:port`.
    pub address: String,
    daemon: Daemon,
}

impl Alertmanager {
    /// Starts one with this configuration file and further `files` beside it
    /// (name and content), and waits until it is ready.
    pub async fn start(config: &str, files: &[(&str, &str)]) -> Result<Self> {
        let files = [&[("alertmanager.yml", config)], files].concat();
        let arguments = ["--config.file=alertmanager.yml", "--storage.path=data", "--cluster.listen-address="];
        let programs = ["alertmanager", "prometheus-alertmanager"];
        let package = "prometheus-alertmanager";
        let daemon = Daemon::start(&programs, package, &arguments, &files, |_| Ok(())).await?;
        Ok(Self { address: daemon.address.clone(), daemon })
    }

    /// The alerts that fire now.
    pub async fn alerts(&self) -> Inhibited {
        let (body, text) = self.daemon.json("/api/v2/alerts").await;
        let alerts = body.as_array().unwrap_or_else(|| panic!("{}", self.daemon.failure(&text)));
        let one = |alert: &serde_json::Value| {
            let name = alert["labels"]["alertname"].as_str().unwrap_or_default();
            let by = alert["status"]["inhibitedBy"].as_array();
            (name.to_owned(), by.is_some_and(|by| !by.is_empty()))
        };
        alerts.iter().map(one).collect()
    }

    /// Asks until the alerts that fire satisfy `condition`.
    ///
    /// # Panics
    /// When they do not in time.
    pub async fn wait_for(&self, what: &str, condition: impl Fn(&Inhibited) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let alerts = self.alerts().await;
            if condition(&alerts) {
                return;
            }
            if Instant::now() >= deadline {
                let text = format!("waited {PATIENCE:?} in vain for {what}, now (name: held back) {alerts:?}");
                panic!("{}", self.daemon.failure(&text));
            }
            tokio::time::sleep(TICK * 10).await;
        }
    }
}
