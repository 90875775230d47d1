//! Independent implementations in Python, from the project's own virtual environment.

use std::path::Path;
use std::process::Command;

use super::process;

/// Runs `script` with `input` on its standard input; returns what it prints.
///
/// # Panics
/// When the environment is not there, or the script fails.
pub fn run(script: &str, input: &[u8]) -> String {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/python/bin/python");
    assert!(python.exists(), "there is no {}: tests/setup.sh python makes it", python.display());
    let mut command = Command::new(python);
    command.arg("-c").arg(script);
    process::filter(command, input)
}
