//! Prometheus and Alertmanager with the shipped configuration, where they are installed.

use std::path::Path;

use crate::support::alertmanager::Alertmanager;
use crate::support::failure::Result;
use crate::support::prometheus::Prometheus;

const CONFIG: &str = include_str!("../../alerts/prometheus.yml");
const RULES: [(&str, &str); 2] = [
    ("rsolv-executions.rules.yml", include_str!("../../alerts/rsolv-executions.rules.yml")),
    ("rsolv-exporter.rules.yml", include_str!("../../alerts/rsolv-exporter.rules.yml")),
];
/// It only shows alerts.
const QUIET: &str = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n";

/// What watches the exporter, and goes with this value.
pub struct Watchers {
    pub prometheus: Option<Prometheus>,
    pub alertmanager: Option<Alertmanager>,
}

/// Starts what is installed.
pub async fn start(exporter: &str) -> Result<Watchers> {
    let alertmanager = match ["alertmanager", "prometheus-alertmanager"].iter().any(|name| is_installed(name)) {
        true => Some(Alertmanager::start(QUIET, &[]).await?),
        false => None,
    };
    let address = alertmanager.as_ref().map_or("127.0.0.1:9", |alertmanager| &alertmanager.address);
    let config = CONFIG.replace("alertmanager:9093", address).replace("rsolv-exporter:10060", exporter);
    let prometheus = match is_installed("prometheus") {
        true => Some(Prometheus::start(&config.replace(" 15s", " 5s"), &RULES).await?),
        false => None,
    };
    Ok(Watchers { prometheus, alertmanager })
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| Path::new(&folder).join(program).is_file())
}
