//! A real Prometheus that scrapes what a test runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use super::daemon::Daemon;
use super::failure::Result;
use super::process::{PATIENCE, TICK};

/// Labels of a series, its name among them as `__name__`.
pub type Labels = BTreeMap<String, String>;

/// A running Prometheus, killed when dropped.
pub struct Prometheus {
    /// Where it listens, `127.0.0.1:port`.
    pub address: String,
    daemon: Daemon,
}

impl Prometheus {
    /// Starts one that scrapes `target` (`host:port`) every second as job
    /// `rsolv-exporter`.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn scraping(target: &str) -> Self {
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             scrape_configs:\n\
             - job_name: rsolv-exporter\n  \
               static_configs: [{{targets: ['{target}']}}]\n"
        );
        Self::start(&config, &[]).await.expect("a running Prometheus")
    }

    /// The same with a feature switched on (`--enable-feature`) and more in the job.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn with_feature(feature: &str, target: &str, job: &str) -> Self {
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             scrape_configs:\n\
             - job_name: rsolv-exporter\n  \
               static_configs: [{{targets: ['{target}']}}]\n{job}"
        );
        let feature = format!("--enable-feature={feature}");
        Self::launch(&[&feature], &config, &[], |_| Ok(())).await.expect("a running Prometheus")
    }

    /// Major and minor version of the one on PATH.
    ///
    /// # Panics
    /// When there is none.
    pub fn version() -> (u32, u32) {
        let output = std::process::Command::new("prometheus").arg("--version").output().expect("prometheus on PATH");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let mut numbers = said.split("version ").nth(1).unwrap_or_default().split('.').map(|n| n.parse().ok());
        let mut number = || numbers.next().flatten().unwrap_or_else(|| panic!("no version: {said}"));
        (number(), number())
    }

    /// Starts one with this configuration file and further `files` beside it
    /// (name and content), and waits until it is ready.
    pub async fn start(config: &str, files: &[(&str, &str)]) -> Result<Self> {
        Self::start_on(config, files, |_| Ok(())).await
    }

    /// The same with further flags.
    pub async fn start_with(flags: &[&str], config: &str, files: &[(&str, &str)]) -> Result<Self> {
        Self::launch(flags, config, files, |_| Ok(())).await
    }

    /// The same, on what `prepare` puts into the folder `data` of the given one.
    pub async fn start_on(
        config: &str,
        files: &[(&str, &str)],
        prepare: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Self> {
        Self::launch(&[], config, files, prepare).await
    }

    async fn launch(
        flags: &[&str],
        config: &str,
        files: &[(&str, &str)],
        prepare: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Self> {
        let files = [&[("prometheus.yml", config)], files].concat();
        let own = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"];
        let arguments = [&own, flags].concat();
        let daemon = Daemon::start(&["prometheus"], "prometheus", &arguments, &files, prepare).await?;
        Ok(Self { address: daemon.address.clone(), daemon })
    }

    /// Its folder, which holds `prometheus.yml`.
    pub fn directory(&self) -> PathBuf {
        self.daemon.directory().into()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Value now of an expression that gives a vector or a scalar.
    ///
    /// # Panics
    /// When Prometheus refuses the expression; so do the functions below.
    pub async fn query(&self, expression: &str) -> Vec<(Labels, f64)> {
        let data = self.api("query", &[("query", expression)]).await;
        match data["resultType"].as_str() {
            Some("scalar") => vec![(Labels::new(), sample(&data["result"]).1)],
            _ => series(&data).map(|series| (labels(series), sample(&series["value"]).1)).collect(),
        }
    }

    /// Raw samples (time in seconds, value) of a range selector such as
    /// `up[5m]`.
    pub async fn samples(&self, selector: &str) -> Vec<(Labels, Vec<(f64, f64)>)> {
        let data = self.api("query", &[("query", selector)]).await;
        series(&data).map(|series| (labels(series), samples(series))).collect()
    }

    /// Values of an expression from `start` to `end` (Unix seconds), one every
    /// `step` seconds.
    pub async fn query_range(
        &self,
        expression: &str,
        (start, end): (f64, f64),
        step: f64,
    ) -> Vec<(Labels, Vec<(f64, f64)>)> {
        let [start, end, step] = [start, end, step].map(|seconds| seconds.to_string());
        let parameters = [("query", expression), ("start", &start), ("end", &end), ("step", &step)];
        let data = self.api("query_range", &parameters).await;
        series(&data).map(|series| (labels(series), samples(series))).collect()
    }

    /// Asks until the result of `expression` satisfies `condition`.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn wait_for(&self, expression: &str, condition: impl Fn(&[(Labels, f64)]) -> bool) -> Vec<(Labels, f64)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let result = self.query(expression).await;
            if condition(&result) {
                return result;
            }
            if Instant::now() >= deadline {
                let what = format!("waited {PATIENCE:?} in vain for {expression}, now {result:?}");
                panic!("{}", self.daemon.failure(&what));
            }
            tokio::time::sleep(TICK * 10).await;
        }
    }

    /// Waits until a target of `job` has been scraped with success.
    pub async fn wait_up(&self, job: &str) {
        self.wait_for(&format!("up{{job=\"{job}\"}} == 1"), |up| !up.is_empty()).await;
    }

    /// `data` of an answer of its HTTP interface to `/api/v1/{endpoint}`.
    pub async fn api(&self, endpoint: &str, parameters: &[(&str, &str)]) -> Value {
        let parameters: Vec<String> =
            parameters.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let path = format!("/api/v1/{endpoint}?{}", parameters.join("&"));
        let (mut body, text) = self.daemon.json(&path).await;
        assert_eq!(body["status"], "success", "{endpoint} {parameters:?}: {text}");
        body["data"].take()
    }
}

fn series(data: &Value) -> impl Iterator<Item = &Value> {
    data["result"].as_array().into_iter().flatten()
}

fn labels(series: &Value) -> Labels {
    let metric = series["metric"].as_object().into_iter().flatten();
    metric.map(|(name, value)| (name.clone(), value.as_str().unwrap_or("").into())).collect()
}

fn samples(series: &Value) -> Vec<(f64, f64)> {
    series["values"].as_array().into_iter().flatten().map(sample).collect()
}

/// A `[time, "value"]` pair.
fn sample(pair: &Value) -> (f64, f64) {
    let value = pair[1].as_str().and_then(|text| text.parse().ok());
    (pair[0].as_f64().unwrap_or(f64::NAN), value.unwrap_or(f64::NAN))
}

/// `text` as part of a query string.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => (byte as char).into(),
            other => format!("%{other:02X}"),
        })
        .collect()
}
