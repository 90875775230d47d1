//! Notes what the program is built from, for `--version` and `rsolv_exporter_build_info`.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RSOLV_EXPORTER_REVISION");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    // A new commit moves one of these; what does not exist would have this run every time.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) =
            output("git", &["rev-parse", "--git-path", name]).filter(|path| std::fs::exists(path).is_ok_and(|is| is))
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let given = env::var("RSOLV_EXPORTER_REVISION").ok().filter(|revision| !revision.is_empty());
    let revision = given.or_else(|| output("git", &["rev-parse", "HEAD"])).unwrap_or_else(|| "unknown".to_owned());
    // The date of the commit, not of the build: the same commit makes the same program.
    let date = match env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) if !seconds.is_empty() => output("date", &["-u", "-d", &format!("@{seconds}"), "+%F"]),
        _ => output("git", &["log", "-1", "--format=%cd", "--date=format-local:%F"]),
    };
    let rustc = output(&env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned()), &["--version"]);
    // "rustc 1.95.0 (…)"
    let rustc = rustc.and_then(|version| version.split(' ').nth(1).map(str::to_owned));
    println!("cargo::rustc-env=BUILD_REVISION={revision}");
    println!("cargo::rustc-env=BUILD_DATE={}", date.unwrap_or_else(|| "unknown".to_owned()));
    println!("cargo::rustc-env=BUILD_RUSTC={}", rustc.unwrap_or_else(|| "unknown".to_owned()));
}

/// What a command prints; none if it fails, as git does without a repository.
fn output(command: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(command).args(arguments).env("TZ", "UTC").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
