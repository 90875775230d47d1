//! A real browser without a window, and pages for it.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;

/// A command for the browser that opens a page; `flags` say what for, such as `--dump-dom`.
pub fn command(profile: &tempfile::TempDir, flags: &[&str], url: &str) -> Command {
    let mut command = Command::new("chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]);
    command.args(["--disable-component-update", "--disable-sync", "--disable-quic", "--hide-scrollbars"]);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    // Time passes as fast as nothing happens.
    command.arg("--virtual-time-budget=20000").args(flags).arg(url);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    command
}

/// Answers one request with the document that `page` gives for its path.
///
/// # Panics
/// When the browser cannot be answered.
pub async fn answer(listener: &TcpListener, page: impl Fn(&str) -> String) {
    loop {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut request = [0; 4096];
        // Browsers also open connections that they may not need.
        let asked = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut request)).await;
        let Ok(Ok(length @ 1..)) = asked else { continue };
        let head = String::from_utf8_lossy(&request[..length]).into_owned();
        let body = page(head.split(' ').nth(1).unwrap_or_default());
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\nconnection: close\r\ncontent-length:";
        stream.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes()).await.expect("it reads");
        return;
    }
}
