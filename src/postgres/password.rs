//! Where the password comes from. It is read anew at every connection, so that it can be rotated.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::failure::{Failure, Reason};

/// How long `database.password_command` may take: time for a slow start of a cloud's command line and its network.
const LIMIT: Duration = Duration::from_secs(30);
/// More output than this is no password.
const LONGEST: u64 = 64 * 1024;

/// Where the password comes from.
#[derive(Clone, Debug, Default)]
pub enum Password {
    /// The URL, `PGPASSWORD` or libpq's password file.
    #[default]
    Address,
    /// `database.password_file`.
    File(PathBuf),
    /// `database.password_command`, run by the shell.
    Command(String),
}

impl Password {
    /// The setting that says so; none if it is the address.
    pub fn setting(&self) -> Option<&'static str> {
        match self {
            Self::Address => None,
            Self::File(_) => Some("database.password_file"),
            Self::Command(_) => Some("database.password_command"),
        }
    }

    /// The password, if it is not in the address. What a command writes is shown nowhere, even when it fails.
    ///
    /// # Errors
    /// If the file cannot be read, or the command fails, takes too long or writes no password.
    pub async fn read(&self) -> Result<Option<String>, Failure> {
        let text = match self {
            Self::Address => return Ok(None),
            Self::File(path) => read_file("database.password_file", path)?,
            Self::Command(command) => run_within(command, LIMIT).await?,
        };
        let password = text.trim_end_matches(['\r', '\n']);
        // An empty file is no password: a unit's default for who needs none.
        Ok((!password.is_empty()).then(|| password.to_owned()))
    }
}

/// The text of a file that a setting names.
pub fn read_file(setting: &str, path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path);
    text.map_err(|e| Failure::new(Reason::Auth, format!("cannot read {setting} {}: {e}", path.display())).losing())
}

/// Why a command gave no password.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error("did not end within {}", humantime::format_duration(*.0))]
    Late(Duration),
    #[error("cannot be run by /bin/sh: {0}")]
    Start(io::Error),
    #[error("cannot be read from: {0}")]
    Read(io::Error),
    #[error("cannot be waited for: {0}")]
    Wait(io::Error),
    #[error("failed ({0})")]
    Failed(ExitStatus),
    #[error("wrote no password to standard output")]
    Empty,
    #[error("wrote something that is not UTF-8")]
    NotText,
}

async fn run_within(command: &str, limit: Duration) -> Result<String, Failure> {
    let result = tokio::time::timeout(limit, run(command)).await;
    let result = result.unwrap_or(Err(CommandError::Late(limit)));
    result.map_err(|why| {
        let message = format!("database.password_command {why}: run it by hand as the exporter's user");
        Failure::new(Reason::Auth, message).losing()
    })
}

async fn run(command: &str) -> Result<String, CommandError> {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).process_group(0);
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = shell.spawn().map_err(CommandError::Start)?;
    let group = Group(child.id());
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let read = stdout.take(LONGEST).read_to_end(&mut output).await;
        read.map_err(CommandError::Read)?;
    }
    let status = child.wait().await.map_err(CommandError::Wait)?;
    std::mem::forget(group);
    if !status.success() {
        return Err(CommandError::Failed(status));
    }
    match String::from_utf8(output) {
        Ok(text) if text.trim().is_empty() => Err(CommandError::Empty),
        Ok(text) => Ok(text),
        Err(_) => Err(CommandError::NotText),
    }
}

/// A command and all that it has started, killed when dropped: a shell that is killed alone leaves its children.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let leader = self.0.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        // A group that has gone has nothing left to kill.
        let _ = leader.map(|leader| kill_process_group(leader, Signal::KILL));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn command(text: &str) -> Result<Option<String>, String> {
        Password::Command(text.to_owned()).read().await.map_err(|e| e.message)
    }

    #[tokio::test]
    async fn a_command_writes_the_password() {
        assert_eq!(command("printf 'a b\\n'").await, Ok(Some("a b".to_owned())));
    }

    #[tokio::test]
    async fn what_a_command_writes_is_not_shown() {
        for (text, said) in [
            ("echo s3cret; echo s3cret >&2; exit 3", "failed (exit status: 3)"),
            ("printf '\\377s3cret'", "wrote something that is not UTF-8"),
            ("true", "wrote no password to standard output"),
        ] {
            let error = command(text).await.unwrap_err();
            assert_eq!(error, format!("database.password_command {said}: run it by hand as the exporter's user"));
        }
    }

    #[tokio::test]
    async fn a_command_that_does_not_end_is_ended_with_all_that_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        let name = std::ffi::CString::new(pipe.to_str().unwrap()).unwrap();
        // SAFETY: the name is a C string that lives through the call.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let text = format!("exec 3>{}; sleep 1000 | cat", pipe.display());
        // Ends when nobody has the pipe open for writing any more.
        let reader = tokio::task::spawn_blocking(move || std::fs::read(pipe));
        let failure = run_within(&text, Duration::from_secs(3)).await.unwrap_err();
        assert!(failure.message.contains("did not end within 3s"), "{failure}");
        let read = tokio::time::timeout(Duration::from_secs(60), reader).await.expect("all are ended");
        assert_eq!(read.unwrap().unwrap(), b"");
    }
}
