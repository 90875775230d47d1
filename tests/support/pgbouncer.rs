//! A real connection pooler.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Instant;

use super::failure::{Failure, Result};
use super::installation::Installation;
use super::ports::free_port;
use super::process::{self, PATIENCE, TICK};
use super::scratch::Scratch;

/// The password of the user `postgres`, the only one.
pub const PASSWORD: &str = "pooled-s3cret";

/// PgBouncer in transaction mode in front of a server, with no setting that it does not need. It wants a password
/// (SCRAM-SHA-256), and is killed when dropped.
pub struct PgBouncer {
    directory: Scratch,
    installation: Installation,
    port: u16,
    child: Child,
}

impl PgBouncer {
    /// Starts one in front of the server at `upstream` on 127.0.0.1 and waits until it listens.
    pub fn to(upstream: u16) -> Result<Self> {
        Self::with(upstream, "pool_mode = transaction")
    }

    /// The same with other settings, one a line.
    pub fn with(upstream: u16, more: &str) -> Result<Self> {
        let installation = Installation::find()?;
        let directory = Scratch::new("pgbouncer", Path::new("/tmp"), installation.owner)?;
        let (port, path) = (free_port(), directory.path());
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={upstream}\n[pgbouncer]\n{more}\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir = {}\n\
             auth_type = scram-sha-256\nauth_file = {}\n",
            path.display(),
            path.join("users").display(),
        );
        fs::write(path.join("users"), format!("\"postgres\" \"{PASSWORD}\"\n"))?;
        fs::write(path.join("pgbouncer.ini"), settings)?;
        let child = start(&installation, &directory, port)?;
        Ok(Self { directory, installation, port, child })
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the process that was started last still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it and starts another one in its place.
    pub fn restart(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = start(&self.installation, &self.directory, self.port)?;
        Ok(())
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // Nothing to do about an error: it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(installation: &Installation, directory: &Scratch, port: u16) -> Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(directory.path().join("log"))?;
    let mut command = installation.program(program()?, directory.path());
    command.arg("pgbouncer.ini").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut child = process::spawn(command, libc::SIGKILL)?;
    let deadline = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if child.try_wait()?.is_some() || Instant::now() >= deadline {
            let log = fs::read_to_string(directory.path().join("log")).unwrap_or_default();
            return Err(Failure::new(format!("PgBouncer does not listen; its log ends:\n{}", process::tail(&log, 20))));
        }
        std::thread::sleep(TICK);
    }
    Ok(child)
}

fn program() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let program = folders.map(|folder| folder.join("pgbouncer")).find(|program| program.is_file());
    program.ok_or_else(|| Failure::new("no pgbouncer found; tests/setup.sh pgbouncer installs it"))
}
