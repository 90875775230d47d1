//! Libraries that are loaded before the system's and change what it says.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Builds one from C in a folder; returns what `LD_PRELOAD` is to be.
///
/// # Panics
/// When it cannot be built.
pub fn library(folder: &Path, code: &str) -> String {
    let (source, library) = (folder.join("preload.c"), folder.join("preload.so"));
    fs::write(&source, code).expect("a file");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(built.expect("cc, which Rust needs as well").success());
    library.display().to_string()
}
