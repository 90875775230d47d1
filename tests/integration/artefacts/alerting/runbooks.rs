//! The exporter's command lines in the runbooks, run as they stand there.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::support::database::Database;
use crate::support::execution::{Mitigation, Validation};
use crate::support::exporter::{self, Exporter};
use crate::support::state::State;

/// Page and line of every command line of the exporter in a runbook.
fn commands() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts/runbooks");
    let mut commands = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split_once("```"));
        let lines = blocks.flat_map(|(block, _)| block.lines().filter(|line| line.starts_with("rsolv-exporter ")));
        let page = path.file_name().unwrap().to_string_lossy();
        commands.extend(lines.map(|line| (page.clone().into_owned(), line.to_owned())));
    }
    commands.sort();
    commands
}

/// Runs a line in a shell that finds the exporter under its name, set up by environment variables.
async fn run(line: &str, environment: &[(&str, &str)]) -> Output {
    let mut command = tokio::process::Command::new("sh");
    let program = exporter::program();
    let path = std::env::var("PATH").unwrap();
    command.arg("-c").arg(line).env("PATH", format!("{}:{path}", program.parent().unwrap().display()));
    command.envs(environment.iter().copied()).kill_on_drop(true);
    tokio::time::timeout(Duration::from_secs(60), command.output()).await.expect(line).unwrap()
}

#[tokio::test]
async fn every_command_line_works() {
    let (database, state) = (Database::new().await, State::new());
    let repo = database.repository("org/app").await;
    let data = r#"{"trust_score": 50, "tests_generated": 1}"#;
    database.insert(Validation::completed(repo, data)).await;
    database.insert(Validation { status: "failed", ..Validation::completed(repo, data) }).await;
    for seconds in [90, 400] {
        database.insert(Validation::completed(repo, data).took(Duration::from_secs(seconds))).await;
    }
    for score in [50, 65] {
        database.insert(Mitigation::completed(repo, format!("{{\"trust_score\": {score}}}"))).await;
    }
    database.insert(Validation::open(repo, "running", data)).await;
    database.insert(Mitigation::open(repo, "running", data)).await;
    let exporter = Exporter::start(&database.url(), &[]).await;
    let url = database.url();
    let environment = [
        ("DATABASE_URL", url.as_str()),
        ("RSOLV_EXPORTER_STATE__FILE", state.path.to_str().unwrap()),
        ("RSOLV_EXPORTER_WEB__LISTEN_ADDRESS", &exporter.address),
    ];
    let commands = commands();
    assert!(commands.len() >= 15, "{commands:?}");
    for (page, line) in commands {
        let output = run(&line, &environment).await;
        let [text, errors] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert!(output.status.success(), "{page}: {line}: {}\n{text}{errors}", output.status);
        // Nothing has overflowed here; every other selection has rows.
        if line.starts_with("rsolv-exporter rows") && !line.contains("__overflow__") {
            assert!(text.contains("org/app"), "{page}: {line} shows no row:\n{text}{errors}");
        }
    }
}
