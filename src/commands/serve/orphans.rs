//! As process 1 of a container: takes what processes have left whose parents ended before them, which would otherwise
//! stay in the table of processes.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Duration, sleep};

/// Whoever started a process waits for it, and takes its status at once. What is there for longer is nobody's.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reaps orphans until `stop` changes; as any other process than 1 there are none.
///
/// # Errors
/// Fails if SIGCHLD cannot be waited for.
pub async fn reap(mut stop: watch::Receiver<bool>) -> io::Result<()> {
    if std::process::id() != 1 {
        return Ok(());
    }
    let mut child_ended = signal(SignalKind::child())?;
    let reaping = async {
        loop {
            while let Some(pid) = ended(libc::P_ALL, 0, libc::WNOWAIT) {
                sleep(PATIENCE).await;
                ended(libc::P_PID, pid.unsigned_abs(), 0);
            }
            child_ended.recv().await;
        }
    };
    tokio::select! {
        () = reaping => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    Ok(())
}

/// A child that has ended, if there is one; with WNOWAIT it stays as it is.
fn ended(kind: libc::idtype_t, id: libc::id_t, flags: libc::c_int) -> Option<libc::pid_t> {
    // SAFETY: all zeros are a value of this struct of numbers, which the call fills in; it touches nothing else.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let result = libc::waitid(kind, id, &raw mut info, libc::WEXITED | libc::WNOHANG | flags);
        (result == 0).then(|| info.si_pid()).filter(|&pid| pid != 0)
    }
}
