//! The real exporter as a child process.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use super::failure::{Failure, Result};
use super::http::{self, Response};
use super::installation::is_libpq;
use super::metrics::Metrics;
use super::process::{self, PATIENCE, TICK};

/// Scrapes cost both sides more than a look does, and tests share few processors.
const SCRAPE_TICK: Duration = Duration::from_millis(40);

/// A running `rsolv-exporter serve`, killed when dropped.
pub struct Exporter {
    /// Where it listens, `127.0.0.1:port`.
    pub address: String,
    child: Child,
    /// Its standard error: in a file, a line can be read as soon as it is written.
    log: File,
}

impl Exporter {
    /// Starts it on a port of its own choosing, on the database at `url`, with
    /// further flags, and waits until it listens.
    ///
    /// # Panics
    /// When it does not come to listening.
    pub async fn start(url: &str, flags: &[&str]) -> Self {
        let flags = [&["--database.url", url, "--web.listen-address", "127.0.0.1:0"], flags];
        Self::launch(&flags.concat(), &[]).await.expect("an exporter that listens")
    }

    /// Starts it with exactly these arguments and environment variables, and
    /// waits until it listens.
    pub async fn launch(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        Self::launch_as(Command::new(program()), arguments, environment).await
    }

    /// The same for a command that runs the exporter in its own way.
    pub async fn launch_as(command: Command, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        let mut command = prepared(command, arguments, environment);
        let log = tempfile::tempfile()?;
        command.stdout(Stdio::null()).stderr(log.try_clone()?);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = process::spawn(command, libc::SIGKILL)
            .map_err(|error| Failure::new(format!("cannot start {program}: {error}; cargo build makes it")))?;
        let mut exporter = Self { address: String::new(), child, log };
        exporter.address = exporter.listening().await?;
        Ok(exporter)
    }

    /// Waits for the log line that says where it listens.
    async fn listening(&mut self) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.child.try_wait()?;
            if let Some(status) = ended {
                let log = self.log();
                let text = format!("the exporter ended ({status}) before it listened:\n{log}");
                return Err(Failure::new(text));
            }
            if let Some(address) = self.log().lines().find_map(address) {
                return Ok(address);
            }
            if Instant::now() >= deadline {
                let log = self.log();
                let text = format!("the exporter did not listen within {PATIENCE:?}:\n{log}");
                return Err(Failure::new(text));
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// GETs a path.
    pub async fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[]).await
    }

    /// Sends a request without a body.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
        match http::request(&self.address, method, path, headers).await {
            Ok(response) => response,
            Err(error) => panic!("{error}; the exporter's log ends:\n{}", self.log_tail()),
        }
    }

    /// Scrapes `/metrics`.
    pub async fn metrics(&self) -> Metrics {
        let response = self.get("/metrics").await;
        assert_eq!(response.status, 200, "/metrics: {}", response.text());
        Metrics::parse(&response.text())
    }

    /// Scrapes until `condition` holds, returns the scrape for which it did.
    ///
    /// # Panics
    /// When it does not in time; the text says that `what` was
    /// waited for, with the last scrape and the end of the log.
    pub async fn wait_for(&self, what: &str, condition: impl Fn(&Metrics) -> bool) -> Metrics {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metrics = self.metrics().await;
            if condition(&metrics) {
                return metrics;
            }
            if Instant::now() >= deadline {
                let samples: Vec<&str> = metrics.text.lines().filter(|line| !line.starts_with('#')).collect();
                panic!(
                    "waited {PATIENCE:?} in vain for {what}\nlast scrape:\n{}\nlog:\n{}",
                    samples.join("\n"),
                    self.log_tail()
                );
            }
            tokio::time::sleep(SCRAPE_TICK).await;
        }
    }

    /// GETs `path` until `condition` holds, returns the response for which it did.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn wait_for_page(&self, path: &str, what: &str, condition: impl Fn(&Response) -> bool) -> Response {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let response = self.get(path).await;
            if condition(&response) {
                return response;
            }
            let text = || format!("{}\nlog:\n{}", response.text(), self.log_tail());
            assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {path} with {what}\n{}", text());
            tokio::time::sleep(SCRAPE_TICK).await;
        }
    }

    /// Scrapes until `count` more polls than now have succeeded or failed.
    pub async fn wait_polls(&self, count: u32) -> Metrics {
        let polls = |metrics: &Metrics| metrics.sum("rsolv_exporter_polls_total", &[]);
        let goal = polls(&self.metrics().await) + f64::from(count);
        self.wait_for(&format!("{count} more polls"), |metrics| polls(metrics) >= goal).await
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.end_by(libc::SIGTERM).await
    }

    /// The same by another signal.
    pub async fn end_by(&mut self, signal: libc::c_int) -> ExitStatus {
        process::signal(self.child.id(), signal);
        self.ended().await
    }

    /// Kills it, which it cannot notice.
    pub async fn kill9(&mut self) {
        process::signal(self.child.id(), libc::SIGKILL);
        self.ended().await;
    }

    /// Waits until the process has ended.
    async fn ended(&mut self) -> ExitStatus {
        let status = self.ends_within(PATIENCE).await.expect("its exit status");
        status.unwrap_or_else(|| panic!("still runs after {PATIENCE:?}; log:\n{}", self.log_tail()))
    }

    /// Its exit status if it ends within `limit`.
    pub async fn ends_within(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Whether the process still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written to standard error so far.
    pub fn log(&self) -> String {
        let size = self.log.metadata().expect("the size of the log").len();
        let mut bytes = vec![0; size as usize];
        // Not by seeking: the exporter writes where this file stands.
        self.log.read_exact_at(&mut bytes, 0).expect("the log");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_tail(&self) -> String {
        process::tail(&self.log(), 20)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // Nothing to do about an error: it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a one-shot command such as `once` or `check` to its end.
///
/// # Panics
/// When it does not end in time.
pub async fn run(arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::from(command(arguments, &[]));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    output
        .unwrap_or_else(|_| panic!("rsolv-exporter {arguments:?} still runs after {PATIENCE:?}"))
        .expect("the exporter can be run")
}

/// The exporter with only these settings, whatever the caller's environment.
fn command(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    prepared(Command::new(program()), arguments, environment)
}

fn prepared(mut command: Command, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    for (name, _) in std::env::vars_os() {
        let ours = name
            .to_str()
            .is_some_and(|name| name.starts_with("RSOLV_EXPORTER_") || name == "DATABASE_URL" || name == "RUST_LOG");
        if ours || is_libpq(&name) {
            command.env_remove(name);
        }
    }
    command.args(arguments).envs(environment.iter().copied()).stdin(Stdio::null());
    command
}

/// The exporter's binary, built by the same Cargo run.
///
/// Cargo names it to tests; an example lies in a folder beside it.
pub fn program() -> PathBuf {
    match option_env!("CARGO_BIN_EXE_rsolv-exporter") {
        Some(path) => path.into(),
        None => {
            let us = std::env::current_exe().expect("the path of this program");
            let target = us.parent().and_then(|examples| examples.parent());
            target.expect("this is in target/*/examples").join("rsolv-exporter")
        }
    }
}

/// The address in a log line that says that the exporter listens.
fn address(line: &str) -> Option<String> {
    if !line.contains("msg=listening") {
        return None;
    }
    let (_, rest) = line.split_once("address=")?;
    let address = rest.split_whitespace().next()?.trim_matches('"');
    Some(address.to_owned())
}
