//! Throwaway PostgreSQL servers.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Instant;

use super::failure::{Failure, Result};
use super::installation::Installation;
use super::ports::free_port;
use super::process::{self, PATIENCE, TICK};
use super::scratch::Scratch;

/// Nothing here must survive a power cut, and nothing may stay behind in the
/// machine's shared memory when the server is killed.
const SETTINGS: &[(&str, &str)] = &[
    ("fsync", "off"),
    ("synchronous_commit", "off"),
    ("full_page_writes", "off"),
    ("dynamic_shared_memory_type", "mmap"),
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "100"),
];

/// A PostgreSQL server of our own, gone without a trace when dropped.
///
/// It listens on a TCP port of 127.0.0.1 and on a socket, trusts everyone, and
/// its superuser is `postgres`.
pub struct Cluster {
    installation: Installation,
    directory: Scratch,
    port: u16,
    server: Mutex<Option<Child>>,
    /// Set once the database that tests copy exists.
    pub(super) template: tokio::sync::OnceCell<()>,
}

impl Cluster {
    /// Creates and starts a server; `extra_settings` go into its
    /// `postgresql.conf` after the harness's own.
    pub fn start(extra_settings: &[(&str, &str)]) -> Result<Self> {
        let installation = Installation::find()?;
        let directory = new_directory(&installation)?;
        let mut cluster = Self {
            installation,
            directory,
            port: free_port(),
            server: Mutex::new(None),
            template: tokio::sync::OnceCell::new(),
        };
        cluster.initdb(extra_settings)?;
        // The port was free a moment ago; someone may have been quicker.
        for _ in 0..5 {
            match cluster.start_again() {
                Err(_) if cluster.log().contains("Address already in use") => {
                    cluster.port = free_port();
                    fs::write(cluster.log_file(), "")?;
                }
                outcome => return outcome.map(|()| cluster),
            }
        }
        Err(Failure::new("PostgreSQL found no free port in five attempts"))
    }

    /// The server that the tests of one binary share, started by the first
    /// test that asks for it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        extern "C" fn remove() {
            if let Some(cluster) = SHARED.get() {
                cluster.remove();
            }
        }
        SHARED.get_or_init(|| {
            let cluster = Self::start(&[]).expect("a shared PostgreSQL server");
            // Statics are never dropped. The reaper would do it too, but a
            // moment after this process has ended.
            // SAFETY: `remove` is a plain function without arguments.
            unsafe { libc::atexit(remove) };
            cluster
        })
    }

    /// Address of `database` over TCP.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Address of `database` over the Unix socket.
    pub fn socket_url(&self, database: &str) -> String {
        let directory = self.directory().display();
        format!("postgresql://postgres@/{database}?host={directory}&port={}", self.port)
    }

    /// Its TCP port on 127.0.0.1; the same after [`Self::start_again`].
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory that holds its socket and everything else of it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.directory().join("data")
    }

    /// Its major version.
    pub fn major(&self) -> u32 {
        let text = fs::read_to_string(self.data().join("PG_VERSION")).unwrap_or_default();
        text.trim().parse().expect("the version of the data directory")
    }

    /// A command for another program of the same installation, run as the
    /// server's user.
    pub fn command(&self, program: &str) -> Command {
        self.installation.command(program, self.directory())
    }

    /// Writes a file into the data directory, readable to the server alone as keys must be. It counts from the next
    /// [`Self::start_again`] on.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        use std::os::unix::fs::{PermissionsExt, chown};
        let path = self.data().join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        if let Some((user, group)) = self.installation.owner {
            chown(&path, Some(user), Some(group))?;
        }
        Ok(())
    }

    /// A hot standby that follows this server by streaming replication. This server is restarted for it, as a copy of
    /// the data directory is taken while it is down: not every installation has `pg_basebackup`.
    pub fn standby(&self, extra_settings: &[(&str, &str)]) -> Result<Self> {
        self.stop_fast()?;
        let directory = new_directory(&self.installation)?;
        let mut copy = self.installation.program("cp", self.directory());
        let copied = copy.arg("-a").arg(self.data()).arg(directory.path()).status()?;
        self.start_again()?;
        if !copied.success() {
            return Err(Failure::new(format!("cp of the data directory: {copied}")));
        }
        let standby = Self {
            installation: self.installation.clone(),
            directory,
            port: free_port(),
            server: Mutex::new(None),
            template: tokio::sync::OnceCell::new(),
        };
        let primary = format!("host=127.0.0.1 port={} user=postgres", self.port);
        standby.write("standby.signal", "")?;
        standby.configure(&[&[("primary_conninfo", primary.as_str())], extra_settings].concat())?;
        standby.start_again().map(|()| standby)
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        fs::read(self.log_file()).map(|text| String::from_utf8_lossy(&text).into()).unwrap_or_default()
    }

    /// Ends all sessions and shuts down in order.
    pub fn stop_fast(&self) -> Result<()> {
        self.stop(libc::SIGINT)
    }

    /// Shuts down at once, as `pg_ctl stop -m immediate`: sessions are told,
    /// the next start recovers.
    pub fn stop_immediate(&self) -> Result<()> {
        self.stop(libc::SIGQUIT)
    }

    /// Kills every process of the server, which tells nobody anything.
    pub fn kill9(&self) -> Result<()> {
        let processes = self.each_process(process::pause);
        processes.iter().for_each(|&pid| process::signal(pid, libc::SIGKILL));
        self.stop(libc::SIGKILL)?;
        let deadline = Instant::now() + PATIENCE;
        while processes.iter().any(|&pid| process::runs(pid)) {
            if Instant::now() >= deadline {
                return Err(Failure::new("PostgreSQL's processes survive SIGKILL"));
            }
            thread::sleep(TICK);
        }
        Ok(())
    }

    /// Stops every process of the server where it stands: connections stay
    /// open and new ones are still accepted by the kernel, but nobody answers.
    pub fn pause(&self) {
        self.each_process(process::pause);
    }

    /// Ends a [`Self::pause`].
    pub fn resume(&self) {
        self.each_process(|pid| process::signal(pid, libc::SIGCONT));
    }

    /// Starts the server on its data directory and waits until it is ready.
    pub fn start_again(&self) -> Result<()> {
        let mut server = self.server();
        let log = OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.directory());
        command.arg("-p").arg(self.port.to_string());
        // Only a server whose lc_messages is other than C obeys it.
        command.env("LANGUAGE", "de");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = server.insert(process::spawn(command, libc::SIGQUIT)?);
        let deadline = Instant::now() + PATIENCE;
        while !self.is_ready(child.id()) {
            let what = match child.try_wait()? {
                Some(status) => format!("PostgreSQL ended while starting ({status})"),
                None if Instant::now() >= deadline => {
                    format!("PostgreSQL was not ready after {PATIENCE:?}")
                }
                None => {
                    thread::sleep(TICK);
                    continue;
                }
            };
            return Err(Failure::new(format!("{what}; its log ends:\n{}", self.log_tail())));
        }
        Ok(())
    }

    fn initdb(&self, extra_settings: &[(&str, &str)]) -> Result<()> {
        let mut command = self.command("initdb");
        command.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]);
        let output = command.arg("-D").arg(self.data()).stdin(Stdio::null()).output()?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(Failure::new(format!("initdb failed ({}):\n{text}", output.status)));
        }
        self.configure(&[SETTINGS, extra_settings].concat())
    }

    /// Adds settings, which win over earlier ones; they count from the next [`Self::start_again`] on.
    pub fn configure(&self, settings: &[(&str, &str)]) -> Result<()> {
        let mut file = OpenOptions::new().append(true).open(self.data().join("postgresql.conf"))?;
        for (name, value) in settings {
            writeln!(file, "{name} = '{}'", value.replace('\'', "''"))?;
        }
        Ok(())
    }

    /// Whether `postmaster.pid` is of this start and its last line says ready.
    fn is_ready(&self, pid: u32) -> bool {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        text.lines().next() == Some(pid.to_string().as_str())
            && text.lines().nth(7).is_some_and(|status| status.trim() == "ready")
    }

    fn stop(&self, signal: libc::c_int) -> Result<()> {
        let mut server = self.server();
        let Some(child) = server.as_mut() else { return Ok(()) };
        process::signal(child.id(), signal);
        if process::wait_exit(child, PATIENCE)?.is_none() {
            let tail = self.log_tail();
            let text = format!("PostgreSQL still runs {PATIENCE:?} after signal {signal}:\n{tail}");
            return Err(Failure::new(text));
        }
        *server = None;
        Ok(())
    }

    /// Does `action` to the server and then, as a server that is stopped
    /// starts no more of them, to its children; returns all of them.
    fn each_process(&self, action: impl Fn(u32)) -> Vec<u32> {
        let Some(postmaster) = self.server().as_ref().map(Child::id) else { return Vec::new() };
        action(postmaster);
        let mut processes = process::children_of(postmaster);
        processes.iter().for_each(|&pid| action(pid));
        processes.push(postmaster);
        processes
    }

    /// Ends the server and removes all its files.
    fn remove(&self) {
        self.resume();
        // An error here could only hide the one a test is failing with; the
        // reaper insists where this does not succeed.
        let _ = self.stop_immediate();
        self.directory.remove();
    }

    fn server(&self) -> MutexGuard<'_, Option<Child>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_file(&self) -> PathBuf {
        self.directory().join("server.log")
    }

    fn log_tail(&self) -> String {
        process::tail(&self.log(), 20)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A fresh directory that the server's user owns, with a path short enough for
/// a socket (107 bytes).
fn new_directory(installation: &Installation) -> Result<Scratch> {
    let chosen = std::env::temp_dir();
    // Another user often has no way into root's own temporary directory.
    let parent = match installation.owner {
        None if chosen.as_os_str().len() <= 60 => chosen,
        _ => PathBuf::from("/tmp"),
    };
    Scratch::new("pg", &parent, installation.owner)
}
