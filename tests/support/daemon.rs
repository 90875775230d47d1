//! Servers of the Prometheus family: one program, a folder of its own, HTTP.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::failure::{Failure, Result};
use super::http;
use super::ports::free_port;
use super::process::{self, PATIENCE, TICK};
use super::scratch::Scratch;

/// A running server, killed when dropped.
pub struct Daemon {
    /// Where it listens, `127.0.0.1:port`.
    pub address: String,
    name: &'static str,
    child: Child,
    directory: Scratch,
}

impl Daemon {
    /// Starts the first of `programs` that is installed (Debian adds a prefix
    /// to some names), in a new folder with `files` (name and content) and what
    /// `prepare` puts there, and waits until it is ready. `package` is where
    /// to get it.
    pub async fn start(
        programs: &[&'static str],
        package: &str,
        arguments: &[&str],
        files: &[(&str, &str)],
        prepare: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Self> {
        let name = programs[0];
        let directory = Scratch::new(name, &std::env::temp_dir(), None)?;
        for (file, content) in files {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap_or(directory.path()))?;
            fs::write(path, content)?;
        }
        prepare(directory.path())?;
        let address = format!("127.0.0.1:{}", free_port());
        let log = File::create(directory.path().join("log"))?;
        let launch = |program: &&str| {
            let mut command = Command::new(program);
            command.current_dir(directory.path()).args(arguments);
            command.arg(format!("--web.listen-address={address}"));
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
            process::spawn(command, libc::SIGKILL)
        };
        let mut started = launch(&name);
        for program in &programs[1..] {
            if !matches!(&started, Err(error) if error.kind() == std::io::ErrorKind::NotFound) {
                break;
            }
            started = launch(program);
        }
        let child = started.map_err(|error| {
            Failure::new(format!("cannot start {name} ({error}); get it with: apt-get install {package}"))
        })?;
        let mut daemon = Self { address, name, child, directory };
        daemon.ready().await?;
        Ok(daemon)
    }

    async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(self.failure(&format!("it ended ({status})")));
            }
            if matches!(http::get(&self.address, "/-/ready").await, Ok(answer) if answer.status == 200) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.failure(&format!("not ready after {PATIENCE:?}")));
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Its folder.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// The JSON at a path, `Null` when the answer is none; and the answer.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn json(&self, path: &str) -> (Value, String) {
        match http::get(&self.address, path).await {
            Ok(answer) => (serde_json::from_slice(&answer.body).unwrap_or_default(), answer.text()),
            Err(error) => panic!("{}", self.failure(&error.to_string())),
        }
    }

    /// `what` went wrong, with the end of its log.
    pub fn failure(&self, what: &str) -> Failure {
        Failure::new(format!("{}: {what}; its log ends:\n{}", self.name, process::tail(&self.log(), 20)))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Nothing to do about an error: it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
