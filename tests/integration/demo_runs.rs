//! The demo as its user runs it.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::support::database::connect;
use crate::support::exporter;
use crate::support::process;

/// Writing the history takes a few seconds, more on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn it_counts_what_it_writes() {
    let mut command = demo(&["--listen", "127.0.0.1:0", "--for", "3s"]);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("an end in time").unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("each was counted once"), "{text}{errors}");
    let wide: Vec<&str> = text.lines().chain(errors.lines()).filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "wider than a terminal: {wide:#?}");
}

#[tokio::test]
async fn it_cleans_up_when_it_is_stopped() {
    let mut child = demo(&["--listen", "127.0.0.1:0"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let url = tokio::time::timeout(PATIENCE, async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some(url) = line.trim().strip_prefix("psql ") {
                return url.to_owned();
            }
        }
        panic!("the demo ended without naming its database");
    });
    let url = url.await.expect("its database in time");
    connect(&url).await.expect("a server while the demo runs");
    process::signal(child.id().expect("it runs"), libc::SIGTERM);
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("an end in time").unwrap();
    assert!(status.success(), "{status}");
    connect(&url).await.expect_err("no server afterwards");
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_first() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let output = demo(&["--listen", &address]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.starts_with(&format!("demo: the exporter cannot listen on {address}")), "{text}");
}

/// The demo that lies beside the exporter's binary.
fn demo(arguments: &[&str]) -> Command {
    let program = exporter::program().with_file_name("examples").join("demo");
    assert!(program.exists(), "{} is missing; cargo build --example demo makes it", program.display());
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}
