//! Names that a program resolves to addresses of the test's choice.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use tempfile::NamedTempFile;

/// A file in the place of `/etc/hosts`, for programs that are started by [`Hosts::command`].
pub struct Hosts(NamedTempFile);

impl Hosts {
    /// Names with their addresses, a pair a line.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn new(lines: &[(&str, &str)]) -> Self {
        let mut file = NamedTempFile::new().expect("a temporary file");
        for (address, name) in lines {
            writeln!(file, "{address} {name}").expect("a line for a host");
        }
        Self(file)
    }

    /// A command for `program` in a mount namespace of its own.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("unshare");
        // SAFETY: geteuid(2) cannot fail and touches no memory.
        if unsafe { libc::geteuid() } != 0 {
            command.arg("--map-root-user");
        }
        command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]);
        command.arg(self.0.path()).arg(program);
        command
    }
}
