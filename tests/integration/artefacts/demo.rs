//! The demo as its user runs it.

use std::net::TcpListener;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::application::Application;
use crate::support::database::connect;
use crate::support::exporter;
use crate::support::http;
use crate::support::metrics::Metrics;
use crate::support::process::{self, PATIENCE};

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

/// What a demo prints until it has said all there is to look at.
async fn guide(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stdout.as_mut().expect("a pipe")).lines();
    let mut text = String::new();
    let read = async {
        while !text.contains("Ctrl-C") {
            let line = lines.next_line().await.unwrap().expect("the demo goes on until it has said all");
            text += &format!("{line}\n");
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("its guide in time");
    text
}

/// The commands in a text: paragraphs that are indented, without comments.
fn commands(text: &str) -> Vec<String> {
    let paragraphs = text.split("\n\n").map(|paragraph| {
        let lines = paragraph.lines().filter(|line| line.starts_with("  ") && !line.trim().starts_with('#'));
        lines.collect::<Vec<_>>().join("\n")
    });
    let two = paragraphs.flat_map(|paragraph| {
        // Two psql commands stand without a line between them.
        let parts: Vec<String> = paragraph.split("\n  psql ").map(str::to_owned).collect();
        parts
            .into_iter()
            .enumerate()
            .map(|(i, part)| if i > 0 { format!("  psql {part}") } else { part })
            .collect::<Vec<_>>()
    });
    two.filter(|command| command.contains("rsolv-exporter ") || command.trim_start().starts_with("psql")).collect()
}

#[tokio::test]
async fn everything_that_it_prints_can_be_pasted_and_the_numbers_agree_afterwards() {
    let mut child = demo(&["--listen", "127.0.0.1:0", "--for", "30s"]).spawn().unwrap();
    let commands = commands(&guide(&mut child).await);
    assert_eq!(commands.len(), 8, "{commands:#?}");
    for command in &commands {
        let output = Command::new("sh").args(["-c", command]).output().await.unwrap();
        let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && !text.is_empty(), "{command}\n{text}{errors}");
        let expected = match command {
            command if command.contains(" check ") => "All good.",
            command if command.contains("UPDATE") => "UPDATE",
            command if command.contains("DELETE") => "DELETE 1",
            command if command.contains(" sql ") => "value",
            command if command.contains(" buckets ") => "suggested",
            _ => "\n",
        };
        assert!(text.contains(expected), "{command}\n{text}{errors}");
        if command.contains("--limit 5") {
            assert!(errors.contains("deleted or changed after they were counted"), "{text}{errors}");
        }
    }
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("an end in time").unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("each was counted once"), "{text}{errors}");
}

#[tokio::test]
async fn without_executable_tests_validations_report_none() {
    let arguments = ["--listen", "127.0.0.1:0", "--executable-tests", "false", "--claude-max-turns", "1"];
    let mut child = demo(&arguments).spawn().unwrap();
    let text = guide(&mut child).await;
    let address = text.lines().find_map(|line| line.trim().strip_prefix("metrics        http://")).expect("a link");
    let metrics = Metrics::parse(&http::get(address.trim_end_matches("/metrics"), "/metrics").await.unwrap().text());
    assert!(metrics.sum("rsolv_validation_executions_total", &[("status", "completed")]) > 10_000.0);
    assert_eq!(metrics.sum("rsolv_validation_test_generated_total", &[]), 0.0);
    // With one turn many mitigations give up.
    let failed = metrics.sum("rsolv_mitigation_executions_total", &[("status", "failed")]);
    assert!(failed > metrics.sum("rsolv_mitigation_executions_total", &[]) / 4.0, "{failed}");
    if is_there("prometheus") {
        assert!(text.contains("Prometheus     http://127.0.0.1:"), "{text}");
    }
}

/// Whether a program can be run.
fn is_there(program: &str) -> bool {
    std::process::Command::new(program).arg("--version").output().is_ok()
}

#[test]
fn the_flag_counts_before_the_environment_before_the_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(".github")).unwrap();
    let file = |text: &str| std::fs::write(folder.path().join(".github/rsolv.yml"), text).unwrap();
    let read = |flags: [Option<&str>; 2], variables: [Option<&str>; 2]| {
        let variable = |name: &str| {
            let i = ["RSOLV_EXECUTABLE_TESTS", "RSOLV_CLAUDE_MAX_TURNS"].iter().position(|other| *other == name);
            variables[i.expect("a variable of the platform")].map(str::to_owned)
        };
        let read = Application::read(flags, variable, folder.path());
        read.map(|application| (application.executable_tests, application.max_turns))
    };
    assert_eq!(read([None; 2], [None; 2]), Ok((true, 5)));
    file("executable_tests: false\nclaude_max_turns: 20\n");
    assert_eq!(read([None; 2], [None; 2]), Ok((false, 20)));
    assert_eq!(read([None; 2], [Some("true"), Some("7")]), Ok((true, 7)));
    assert_eq!(read([Some("false"), Some("1")], [Some("true"), Some("7")]), Ok((false, 1)));
    for (flags, variables, expected) in [
        ([Some("maybe"), None], [None; 2], "--executable-tests must be true or false, and is \"maybe\""),
        ([None, Some("21")], [None; 2], "--claude-max-turns must be a whole number from 1 to 20, and is \"21\""),
        ([None; 2], [None, Some("0")], "RSOLV_CLAUDE_MAX_TURNS must be a whole number from 1 to 20, and is \"0\""),
    ] {
        assert_eq!(read(flags, variables), Err(expected.to_owned()));
    }
    for wrong in ["claude_max_turns: many", "claude_max_turns: [5]", "claude_max_turns: 5.5", "executable_tests: 3"] {
        file(wrong);
        assert!(read([None; 2], [None; 2]).unwrap_err().starts_with(".github/rsolv.yml: "), "{wrong}");
    }
}

#[tokio::test]
async fn it_cleans_up_when_it_is_stopped() {
    let mut child = demo(&["--listen", "127.0.0.1:0"]).spawn().unwrap();
    let text = guide(&mut child).await;
    let url = text.lines().find_map(|line| line.trim().strip_prefix("psql ")).expect("its database");
    let url = url.split(' ').next().expect("a word").to_owned();
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
    assert!(text.contains("make demo DEMO=\"--listen 127.0.0.1:"), "{text}");
}

/// The demo that lies beside the exporter's binary.
fn demo(arguments: &[&str]) -> Command {
    let program = exporter::program().with_file_name("examples").join("demo");
    assert!(program.exists(), "{} is missing; cargo build --example demo makes it", program.display());
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}
