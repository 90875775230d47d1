//! A real Prometheus that scrapes what a test runs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::failure::{Failure, Result};
use super::http;
use super::ports::free_port;
use super::process::{self, TICK};
use super::scratch::Scratch;

/// How long Prometheus may take to do what is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Labels of a series, its name among them as `__name__`.
pub type Labels = BTreeMap<String, String>;

/// A running Prometheus, killed when dropped.
pub struct Prometheus {
    /// Where it listens, `127.0.0.1:port`.
    pub address: String,
    child: Child,
    directory: Scratch,
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

    /// Starts one with this configuration file and further `files` beside it
    /// (name and content), and waits until it is ready.
    pub async fn start(config: &str, files: &[(&str, &str)]) -> Result<Self> {
        Self::start_on(config, files, |_| Ok(())).await
    }

    /// The same, on what `prepare` puts into the folder `data` of the given one.
    pub async fn start_on(
        config: &str,
        files: &[(&str, &str)],
        prepare: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Self> {
        let directory = Scratch::new("prometheus", &std::env::temp_dir(), None)?;
        for (name, content) in [("prometheus.yml", config)].iter().chain(files) {
            fs::write(directory.path().join(name), content)?;
        }
        prepare(directory.path())?;
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new("prometheus");
        command.current_dir(directory.path()).arg("--config.file=prometheus.yml");
        command.arg(format!("--web.listen-address={address}"));
        command.args(["--storage.tsdb.path=data", "--log.level=warn"]);
        let log = File::create(directory.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = process::spawn(command, libc::SIGKILL).map_err(|error| {
            let remedy = "get it with: apt-get install prometheus";
            Failure::new(format!("cannot start prometheus ({error}); {remedy}"))
        })?;
        let mut prometheus = Self { address, child, directory };
        prometheus.ready().await?;
        Ok(prometheus)
    }

    async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(self.failure(&format!("Prometheus ended ({status})")));
            }
            if matches!(http::get(&self.address, "/-/ready").await, Ok(answer) if answer.status == 200) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.failure(&format!("Prometheus not ready after {PATIENCE:?}")));
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Its folder, which holds `prometheus.yml`.
    pub fn directory(&self) -> PathBuf {
        self.directory.path().into()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
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
    /// When it does not within a minute.
    pub async fn wait_for(&self, expression: &str, condition: impl Fn(&[(Labels, f64)]) -> bool) -> Vec<(Labels, f64)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let result = self.query(expression).await;
            if condition(&result) {
                return result;
            }
            if Instant::now() >= deadline {
                let what = format!("waited {PATIENCE:?} in vain for {expression}, now {result:?}");
                panic!("{}", self.failure(&what));
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
        let answer = match http::get(&self.address, &path).await {
            Ok(answer) => answer,
            Err(error) => panic!("{}", self.failure(&error.to_string())),
        };
        let mut body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        assert_eq!(body["status"], "success", "{endpoint} {parameters:?}: {}", answer.text());
        body["data"].take()
    }

    fn failure(&self, what: &str) -> Failure {
        Failure::new(format!("{what}; its log ends:\n{}", process::tail(&self.log(), 20)))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Nothing to do about an error: it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
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
