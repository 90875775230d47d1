//! README, doc/promises.md, doc/speed.md and doc/definitions.md: what they print can be used as it stands, and the tests that
//! they name exist.

use std::fs;
use std::path::Path;
use std::process::Output;

use tokio::process::Command;

use super::commands::documents;
use crate::support::database::Database;
use crate::support::exporter::program;
use crate::support::metrics::Metrics;

const README: &str = include_str!("../../../README.md");
const DEFINITIONS: &str = include_str!("../../../doc/definitions.md");

/// The blocks of a document in one language.
fn blocks<'a>(document: &'a str, language: &str) -> Vec<&'a str> {
    let begin = format!("```{language}\n");
    document.split(&begin).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// Runs a line as a user's shell would, in a folder, with the program on the path.
async fn shell(line: &str, folder: &Path, url: &str) -> Output {
    let path = std::env::join_paths(
        [program().parent().unwrap().to_owned()]
            .into_iter()
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let mut command = Command::new("bash");
    command.args(["-o", "pipefail", "-c", line]).current_dir(folder).env("PATH", path.unwrap());
    command.env("DATABASE_URL", url).output().await.unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn prometheus_takes_the_configuration_and_the_alert_of_the_first_page() {
    let (folder, blocks) = (tempfile::tempdir().unwrap(), blocks(README, "yaml"));
    assert_eq!(blocks.len(), 2);
    for (block, kind) in blocks.iter().zip(["config", "rules"]) {
        let file = folder.path().join(kind);
        fs::write(&file, block).unwrap();
        let output = Command::new("promtool").args(["check", kind]).arg(&file).output().await.unwrap();
        assert!(output.status.success(), "{block}\n{}", said(&output));
    }
}

#[test]
fn the_first_page_is_short() {
    assert!(README.lines().count() < 150);
}

#[tokio::test]
async fn the_job_queue_of_the_documentation_is_counted_by_a_role_with_its_grants_alone() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let sql = blocks(DEFINITIONS, "sql");
    let (tables, select, grants) = (sql[0], sql[1], sql[2]);
    let role = format!("reader_{}", db.name);
    let rows = "INSERT INTO queues (name) VALUES ('mail');
        INSERT INTO jobs (queue_id, state, attempts, started_at, finished_at) VALUES
        (1, 'succeeded', 1, now() - interval '1 minute', now()), (NULL, 'failed', 3, now() - interval '1 minute', now()),
        (1, 'running', 1, now(), NULL);";
    db.batch(&format!("{tables} CREATE ROLE {role} LOGIN; {} {rows}", grants.replace("rsolv_exporter", &role))).await;
    fs::write(folder.path().join("jobs.sql"), select).unwrap();
    fs::write(folder.path().join("jobs.toml"), blocks(DEFINITIONS, "toml")[0]).unwrap();
    let url = db.url().replacen("postgres@", &format!("{role}@"), 1);
    let output = shell("rsolv-exporter check --queries.dir .", folder.path(), &url).await;
    assert!(output.status.success(), "{}", said(&output));
    let output = shell("rsolv-exporter once --queries.dir .", folder.path(), &url).await;
    let metrics = Metrics::parse(&String::from_utf8_lossy(&output.stdout));
    let of = |name: &str, labels: &[(&str, &str)]| metrics.sum(name, labels);
    assert_eq!(of("jobs_total", &[("queue", "mail"), ("result", "succeeded")]), 1.0, "{}", said(&output));
    assert_eq!(of("jobs_total", &[("queue", "none"), ("result", "failed")]), 1.0);
    assert_eq!((of("jobs_retried_total", &[]), of("jobs_attempts_total", &[])), (1.0, 4.0));
    assert_eq!((of("jobs_duration_seconds_count", &[]), of("jobs_open", &[])), (2.0, 1.0));
}

/// True if there is such a module or function of the tests or of the program.
fn is_there(name: &str) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = |module: &str| {
        let path = module.replace("::", "/");
        let places = ["tests/integration", "src"].map(|of| root.join(of).join(&path));
        let found =
            places.iter().flat_map(|path| [path.with_extension("rs"), path.join("mod.rs")]).find(|p| p.is_file());
        found.map(|path| fs::read_to_string(path).unwrap())
    };
    let (module, last) = name.rsplit_once("::").unwrap_or_default();
    file(name).is_some() || file(module).is_some_and(|text| text.contains(&format!("fn {last}(")))
}

#[test]
fn every_test_that_is_named_exists() {
    let mut named = 0;
    for document in documents() {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&document)).unwrap();
        let is_name = |word: &&str| {
            word.contains("::") && word.chars().all(|c| c.is_ascii_lowercase() || "_:0123456789".contains(c))
        };
        for name in text.split('`').filter(is_name) {
            assert!(is_there(name), "{document} names the test {name}, which is not there");
            named += 1;
        }
    }
    assert!(named > 30, "{named}");
}
