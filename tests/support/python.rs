//! Independent implementations in Python, from the project's own virtual environment.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs `script` with `input` on its standard input; returns what it prints.
///
/// # Panics
/// When the environment is not there, or the script fails.
pub fn run(script: &str, input: &[u8]) -> String {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/python/bin/python");
    assert!(python.exists(), "there is no {}: tests/setup.sh python makes it", python.display());
    let mut command = Command::new(python);
    command.arg("-c").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("Python starts");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    let input = input.to_vec();
    // A script that fails early does not read on.
    let writer = std::thread::spawn(move || _ = stdin.write_all(&input));
    let output = child.wait_with_output().expect("Python ends");
    writer.join().expect("only writes");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "Python: {}\n{errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
