//! Child processes that cannot outlive the harness.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything that is waited for may take: far longer than it does, as tests share few processors.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How often a condition is looked at while it is waited for.
pub const TICK: Duration = Duration::from_millis(10);

type Job = (Command, mpsc::SyncSender<io::Result<Child>>);

/// The thread all children are started from.
///
/// Linux sends the parent-death signal when the *thread* that forked ends, and
/// a test's thread ends long before a server that other tests share should.
static SPAWNER: LazyLock<mpsc::Sender<Job>> = LazyLock::new(|| {
    let (jobs, inbox) = mpsc::channel::<Job>();
    thread::Builder::new()
        .name("spawner".into())
        .spawn(move || {
            for (mut command, reply) in inbox {
                // The asker always waits for the reply.
                let _ = reply.send(command.spawn());
            }
        })
        .expect("a thread for starting children");
    jobs
});

/// Starts `command`; the kernel sends it `signal` when this process ends,
/// however that happens.
///
/// The child gets a process group of its own, so that Ctrl-C in a terminal
/// reaches only the harness, which then stops its children in order.
pub fn spawn(mut command: Command, signal: libc::c_int) -> io::Result<Child> {
    let harness = std::process::id();
    command.process_group(0);
    // SAFETY: between fork and exec only the two async-signal-safe calls
    // below run. A change of user clears the setting, and the standard library
    // changes the user before it runs this.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, signal) != 0 {
                return Err(io::Error::last_os_error());
            }
            if libc::getppid() as u32 != harness {
                return Err(io::ErrorKind::Interrupted.into()); // already dead
            }
            Ok(())
        });
    }
    let (reply, started) = mpsc::sync_channel(1);
    SPAWNER.send((command, reply)).expect("the spawner never ends");
    started.recv().expect("the spawner answers every job")
}

/// Sends `signal` to process `pid`; one that is already gone is fine.
pub fn signal(pid: u32, signal: libc::c_int) {
    // SAFETY: kill(2) touches no memory.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// Stops `pid` where it stands, and returns once it does stand.
pub fn pause(pid: u32) {
    signal(pid, libc::SIGSTOP);
    while stat(pid).is_some_and(|(state, _)| !matches!(state, 'T' | 'Z' | 'X')) {
        thread::yield_now();
    }
}

/// Waits until `child` ends, `None` when it has not by the end of `limit`.
pub fn wait_exit(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(TICK);
    }
}

/// The direct children of process `parent`.
pub fn children_of(parent: u32) -> Vec<u32> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| stat(pid).is_some_and(|(_, ppid)| ppid == parent))
        .collect()
}

/// Whether `pid` still runs; a zombie nobody reaps does not.
pub fn runs(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// State letter and parent of `pid`, from `/proc/PID/stat`.
fn stat(pid: u32) -> Option<(char, u32)> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name in parentheses can itself hold blanks and parentheses.
    let mut fields = line.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Runs a program with `input` on its standard input; returns what it prints.
///
/// # Panics
/// When it cannot be run, or fails.
pub fn filter(mut command: Command, input: &[u8]) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    let input = input.to_vec();
    // One that fails early does not read on.
    let writer = std::thread::spawn(move || _ = stdin.write_all(&input));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("only writes");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The last `lines` lines of `text`, for error messages.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
