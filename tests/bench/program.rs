//! Other programs, which never outlive the comparison.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::exporter::Exporter;
use crate::support::failure::{Failure, Result};
use crate::support::{http, process};

/// How long one step may take: with millions of rows some take minutes.
pub const LIMIT: Duration = Duration::from_secs(600);

/// A program that is killed when this goes away.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a program; what it prints is not kept.
pub fn start(mut command: Command) -> Result<Running> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    spawn(command)
}

fn spawn(command: Command) -> Result<Running> {
    let program = command.get_program().to_string_lossy().into_owned();
    let child = process::spawn(command, libc::SIGKILL);
    Ok(Running(child.map_err(|error| Failure::new(format!("cannot start {program}: {error}")))?))
}

/// Runs a program to its end; returns how long that took in seconds.
pub async fn time(mut command: Command) -> Result<f64> {
    command.stdout(Stdio::null());
    finish(command).await.map(|(seconds, _)| seconds)
}

/// Runs a program to its end; returns the little that it prints.
pub async fn output(mut command: Command) -> Result<String> {
    command.stdout(Stdio::piped());
    finish(command).await.map(|(_, text)| text)
}

async fn finish(mut command: Command) -> Result<(f64, String)> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.env("LC_ALL", "C").stdin(Stdio::null()).stderr(Stdio::piped());
    let started = Instant::now();
    let mut running = spawn(command)?;
    let status = loop {
        match running.0.try_wait()? {
            Some(status) => break status,
            None if started.elapsed() > LIMIT => {
                return Err(Failure::new(format!("{program} still runs after {LIMIT:?}")));
            }
            None => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    let (mut text, mut errors) = (String::new(), String::new());
    if let Some(mut stdout) = running.0.stdout.take() {
        stdout.read_to_string(&mut text)?;
    }
    if let Some(mut stderr) = running.0.stderr.take() {
        stderr.read_to_string(&mut errors)?;
    }
    if !status.success() {
        return Err(Failure::new(format!("{program}: {status}\n{errors}")));
    }
    Ok((seconds, text))
}

/// Waits until the exporter has read the history.
pub async fn ready(exporter: &Exporter) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while http::get(&exporter.address, "/-/ready").await?.status != 200 {
        if Instant::now() > deadline {
            return Err(Failure::new(format!("not ready after {LIMIT:?}\n{}", exporter.log())));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Whether a program is on PATH, or there if it is named by its path.
pub fn installed(program: &str) -> bool {
    Command::new("sh").args(["-c", "command -v \"$0\" >/dev/null", program]).status().is_ok_and(|s| s.success())
}
