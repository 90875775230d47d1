//! The commands of all documents, run as they are printed: in a fresh copy of what is shipped, against a PostgreSQL of
//! their own, with the exporter on PATH.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::cluster::Cluster;
use crate::support::database::{Database, add_repository, connect};
use crate::support::execution::{Mitigation, Validation};
use crate::support::exporter::{Exporter, program};
use crate::support::metrics::Metrics;
use crate::support::ports::free_port;
use crate::support::process::PATIENCE;

/// Blocks that cannot be run here: the document, how they begin, and why not.
const NOT_RUN: &[(&str, &str, &str)] = &[
    ("README.md", "make demo", "artefacts::demo runs the demo, and make test is what runs this"),
    ("deploy/README.md", "docker compose", "needs a Docker engine"),
    ("deploy/README.md", "deploy/smoke-test.sh", "is about that Compose file; tests/deploy/test_smoke_test.py runs it"),
    ("deploy/README.md", "kubectl", "needs a cluster"),
    ("deploy/kubernetes/README.md", "kubectl", "needs a cluster"),
];

/// What the text before a block of SQL presumes.
const PRESUMED: &[(&str, &str, &str)] = &[
    ("doc/definitions.md", "SELECT j.id, j.state", "ALTER TABLE jobs ADD COLUMN is_test boolean"),
    ("doc/definitions.md", "CREATE SEQUENCE jobs_event_id_seq", "ALTER TABLE jobs DROP COLUMN event_id"),
];

/// Blocks in these languages are no commands; others check them.
const NO_COMMANDS: [&str; 5] = ["", "promql", "yaml", "toml", "ini"];

/// What each script begins with: whatever serves is ended once it is ready.
const PREAMBLE: &str = r#"set -euo pipefail
rsolv-exporter() {
  case $1 in
    serve | --*)
      command rsolv-exporter "$@" &
      until curl --silent --fail "http://$RSOLV_EXPORTER_WEB__LISTEN_ADDRESS/-/ready"; do kill -0 $!; sleep 0.1; done
      kill $!
      wait $! ;;
    *) command rsolv-exporter "$@" ;;
  esac
}
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
"#;

/// A fenced block of a document.
struct Block {
    line: usize,
    /// The heading that it stands under.
    heading: String,
    language: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All documents, by their paths in the repository, the first page first.
pub fn documents() -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = folder.join(entry.unwrap().file_name());
            if root().join(&path).is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let mut found = vec![PathBuf::from("README.md"), PathBuf::from("CHANGELOG.md")];
    ["alerts", "dashboards", "deploy", "doc"].iter().for_each(|folder| walk(Path::new(folder), &mut found));
    found.iter().map(|path| path.display().to_string()).collect()
}

/// Its fenced blocks; those in lists are indented.
fn blocks(document: &str) -> Vec<Block> {
    let text = fs::read_to_string(root().join(document)).unwrap();
    let (mut blocks, mut open, mut heading) = (Vec::<Block>::new(), None, String::new());
    for (number, line) in text.lines().enumerate() {
        let (stripped, line_number) = (line.trim_start(), number + 1);
        match (stripped.strip_prefix("```"), open) {
            (Some(language), None) => {
                open = Some(line.len() - stripped.len());
                let (heading, language) = (heading.clone(), language.to_owned());
                blocks.push(Block { line: line_number, heading, language, text: String::new() });
            }
            (Some(_), Some(_)) => open = None,
            (None, Some(indent)) => {
                let block = blocks.last_mut().unwrap();
                block.text.push_str(line.get(indent..).unwrap_or_default());
                block.text.push('\n');
            }
            (None, None) => {
                if line.starts_with('#') {
                    heading = line.trim_start_matches('#').trim().to_owned();
                }
                let programs = ["rsolv-exporter", "psql", "docker", "kubectl", "make", "cargo", "deploy/", "systemctl"];
                let is_command = line.starts_with("    ") && programs.iter().any(|name| stripped.starts_with(name));
                assert!(!is_command, "{document}:{line_number}: commands belong into a block that begins with ```sh");
            }
        }
    }
    blocks
}

/// True if the check on a machine that systemd boots runs the `nth` block of shell commands under this heading.
fn is_run_under_systemd(document: &str, heading: &str, nth: usize) -> bool {
    let checks = fs::read_to_string(root().join("tests/deploy/systemd/checks.sh")).unwrap();
    let call = [format!("documented {heading} {nth}"), format!("documented '{heading}' {nth}")];
    document == "deploy/README.md" && call.iter().any(|call| checks.contains(call))
}

fn find(table: &[(&'static str, &'static str, &'static str)], document: &str, text: &str) -> Option<&'static str> {
    table.iter().find(|(of, start, _)| *of == document && text.starts_with(start)).map(|(_, _, found)| *found)
}

/// The blocks that are run here, in the order of the document.
fn to_run(document: &str) -> Vec<Block> {
    let all = blocks(document);
    let nth = |i: usize| all[..=i].iter().filter(|block| block.heading == all[i].heading).count();
    let is_run: Vec<bool> = (0..all.len())
        .map(|i| match all[i].language.as_str() {
            "sh" if is_run_under_systemd(document, &all[i].heading, nth(i)) => false,
            "sh" | "sql" => find(NOT_RUN, document, &all[i].text).is_none(),
            language => {
                let known = NO_COMMANDS.contains(&language);
                assert!(known, "{document}:{}: is {language:?} to be run? tests do not know it", all[i].line);
                false
            }
        })
        .collect();
    all.into_iter().zip(is_run).filter(|(_, is_run)| *is_run).map(|(block, _)| block).collect()
}

/// One script with all blocks; before each it prints its line.
fn script(document: &str, blocks: &[Block]) -> String {
    let mut script = PREAMBLE.to_owned();
    for Block { line, language, text, .. } in blocks {
        script.push_str(&format!("printf '\\n@@%s\\n' {line}\n"));
        if language == "sql" {
            let before = find(PRESUMED, document, text).map(|sql| format!("{sql};\n")).unwrap_or_default();
            script.push_str(&format!("psql -X -v ON_ERROR_STOP=1 -d rsolv <<'END'\n{before}{text};\nEND\n"));
        } else {
            script.push_str(text);
        }
    }
    if document == "alerts/README.md" {
        // Its links are to be changed everywhere.
        script.push_str("! grep -l grafana.example.com alerts/*.rules.yml dashboards/*.json\n");
    }
    script
}

/// Runs the blocks of a document; returns what each printed.
async fn run(document: String, port: u16, served: Option<String>) -> Vec<(Block, String)> {
    let blocks = to_run(&document);
    let folder = tempfile::tempdir().unwrap();
    let mut copy = Command::new("cp");
    copy.arg("-r").args(["alerts", "dashboards", "deploy", "queries"].map(|name| root().join(name))).arg(folder.path());
    assert!(copy.status().await.unwrap().success());
    // Where the documents mean a server or a folder that is another one here.
    let here = format!("127.0.0.1:{port}");
    let state = folder.path().display().to_string();
    let script = script(&document, &blocks).replace("localhost:5432", &here).replace("REPLICA", &here);
    let script = script.replace("/var/lib/rsolv-exporter", &state);

    let path = format!("{}:{}", program().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let listen = served.unwrap_or_else(|| format!("127.0.0.1:{}", free_port()));
    // Without a terminal, psql reads a password from standard input.
    let mut command = Command::new("setsid");
    command.args(["--wait", "bash", "-c", &script]).current_dir(folder.path()).kill_on_drop(true);
    command.env("PATH", path).env("HOME", folder.path()).env("RSOLV_EXPORTER_WEB__LISTEN_ADDRESS", listen);
    command.env("PGHOST", "127.0.0.1").env("PGPORT", port.to_string()).env("PGUSER", "postgres");
    if document != "README.md" {
        command.env("DATABASE_URL", format!("postgres://rsolv_exporter@{here}/rsolv"));
        command.env("RSOLV_EXPORTER_STATE__FILE", folder.path().join("state"));
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Who asks for no password does not read it.
    let _ = child.stdin.take().unwrap().write_all(b"s3cret\ns3cret\n").await;
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("{document}: its commands still run after {PATIENCE:?}")).unwrap();
    let [text, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let printed: Vec<String> = text.split("\n@@").skip(1).map(str::to_owned).collect();
    if !output.status.success() {
        let failed = &blocks[printed.len().max(1) - 1];
        panic!("{document}:{}: {}\n{}\n{text}{errors}", failed.line, output.status, failed.text);
    }
    blocks.into_iter().zip(printed).collect()
}

/// The database `rsolv` on a server of its own, with the platform's tables and those of doc/definitions.md.
async fn prepare(cluster: &Cluster) -> tokio_postgres::Client {
    let platform = Database::on(cluster).await;
    let admin = connect(&cluster.socket_url("postgres")).await.unwrap();
    admin.batch_execute("CREATE DATABASE rsolv TEMPLATE platform").await.unwrap();
    drop(platform);
    let client = connect(&cluster.socket_url("rsolv")).await.unwrap();
    let tables = blocks("doc/definitions.md").into_iter().find(|block| block.language == "sql").expect("tables");
    client.batch_execute(&tables.text).await.unwrap();
    let repo = add_repository(&client, "org/app").await.unwrap();
    let data = r#"{"trust_score": 50, "tests_generated": 1}"#;
    let took = |seconds| Validation::completed(repo, data).took(Duration::from_secs(seconds));
    let scored = |score| Mitigation::completed(repo, format!("{{\"trust_score\": {score}}}"));
    for row in [
        String::from(Validation { status: "failed", ..took(5) }),
        took(90).into(),
        took(400).into(),
        scored(50).into(),
        scored(65).into(),
        Validation::open(repo, "running", data).into(),
        Mitigation::open(repo, "running", data).into(),
    ] {
        client.query_one(&row, &[]).await.unwrap();
    }
    client
}

#[tokio::test]
async fn every_command_of_every_document_works_as_it_is_printed() {
    let cluster = Cluster::start(&[]).unwrap();
    let client = prepare(&cluster).await;
    // The first page makes the role that the others use.
    assert!(run("README.md".into(), cluster.port(), None).await.len() >= 4);
    client.batch_execute("DROP TABLE jobs, queues").await.unwrap();

    let url = format!("postgres://rsolv_exporter@127.0.0.1:{}/rsolv", cluster.port());
    let exporter = Exporter::start(&url, &[]).await;
    exporter.wait_for("the rows", Metrics::is_up).await;
    let others = documents().into_iter().skip(1).filter(|document| !to_run(document).is_empty());
    // The role may have five connections.
    let (mut runs, turns) = (JoinSet::new(), Arc::new(Semaphore::new(3)));
    for document in others {
        // Only one of the documents starts an exporter, which needs a port of its own.
        let served = (document != "deploy/README.md").then(|| exporter.address.clone());
        let (port, turns) = (cluster.port(), Arc::clone(&turns));
        runs.spawn(async move {
            let _turn = turns.acquire().await;
            (document.clone(), run(document, port, served).await)
        });
    }
    let mut rows = 0;
    while let Some(done) = runs.join_next().await {
        let (document, blocks) = done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        for (block, printed) in blocks {
            // Nothing has overflowed here; every other selection has rows.
            if block.text.starts_with("rsolv-exporter rows") && !block.text.contains("__overflow__") {
                assert!(printed.contains("org/app"), "{document}:{}: no row:\n{printed}", block.line);
                rows += 1;
            }
        }
    }
    assert!(rows >= 10, "{rows} runbooks list rows");
}

#[test]
fn no_reason_is_left_for_a_block_that_is_gone() {
    for (document, start, _) in NOT_RUN.iter().chain(PRESUMED) {
        assert!(blocks(document).iter().any(|block| block.text.starts_with(start)), "{document} has no block {start}");
    }
}
