//! What `doc/definitions.md` says about keys works as it is pasted, and `init` describes such tables.

use std::fs;

use crate::support::exporter::run;
use crate::support::source::Source;

const DEFINITIONS: &str = include_str!("../../../../doc/definitions.md");
const JOBS: &str = "CREATE TABLE jobs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state text NOT NULL, finished_at timestamptz)";

/// The blocks of a language in a section.
fn blocks(section: &str, language: &str) -> Vec<&'static str> {
    let (_, text) = DEFINITIONS.split_once(&format!("# {section}\n")).expect(section);
    let text = text.split("\n## ").next().and_then(|text| text.split("\n### ").next()).unwrap_or(text);
    let all = text.split("```").skip(1).step_by(2);
    all.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).collect()
}

/// Runs statements one by one, as psql does.
async fn paste(source: &Source<'_>, sql: &str) {
    for statement in sql.split_inclusive(";\n").filter(|statement| !statement.trim().is_empty()) {
        source.db.batch(statement).await;
    }
}

#[tokio::test]
async fn the_statements_and_definitions_work_as_they_are_pasted() {
    let mut source = Source::new(&[JOBS]).await;
    let (along, by) = (blocks("Along an order", "sql"), blocks("By transactions", "sql"));
    paste(&source, along[0]).await;
    paste(&source, by[0]).await;
    let again = blocks("Rows that end again", "sql");
    paste(&source, again[0]).await;
    let toml = |section: &str, from: &str, to: &str| blocks(section, "toml")[0].replace(from, to);
    source.define("runs", along[1], blocks("Along an order", "toml")[0]);
    source.define("again", by[1], &toml("By transactions", "runs_total", "again_total"));
    source.define("jobs_endings", again[1], blocks("Rows that end again", "toml")[0]);
    for extension in ["sql", "toml"] {
        fs::remove_file(format!("{}/events.{extension}", source.queries())).unwrap();
    }
    source.db.batch("INSERT INTO runs (state) VALUES ('running'), ('done'), ('done')").await;
    source.db.batch("INSERT INTO jobs (state, finished_at) VALUES ('failed', now()), ('running', NULL)").await;
    source.start().await;
    source.counts_of("runs", 2).await;
    source.counts_of("again", 2).await;
    source.counts_of("jobs_endings", 1).await;
    source.db.batch("UPDATE jobs SET state = 'running', finished_at = NULL").await;
    source.polls().await;
    source.db.batch("UPDATE jobs SET state = 'succeeded', finished_at = now()").await;
    let metrics = source.counts_of("jobs_endings", 3).await;
    assert_eq!(metrics.value("jobs_endings_total", &[("result", "succeeded")]), Some(2.0));
    let output = run(&["check", "--database.url", &source.db.url(), "--queries.dir", &source.queries()]).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test]
async fn init_describes_tables_with_such_keys_so_that_check_takes_them() {
    let source = Source::new(&[
        "CREATE TABLE tasks (task uuid PRIMARY KEY, status text NOT NULL, created_at timestamp NOT NULL DEFAULT now(), finished_at timestamp);
         CREATE INDEX ON tasks (created_at);
         INSERT INTO tasks SELECT gen_random_uuid(), (ARRAY['running', 'ok'])[1 + i % 2] FROM generate_series(1, 50) AS i",
        "CREATE TABLE \"Lines\" (\"Order\" text, at int, inserted_at timestamptz NOT NULL DEFAULT now(), amount int, PRIMARY KEY (\"Order\", at));
         INSERT INTO \"Lines\" SELECT 'o', i, now(), i FROM generate_series(1, 50) AS i",
    ])
    .await;
    let folder = tempfile::tempdir().unwrap();
    let (url, queries) = (source.db.url(), folder.path().display().to_string());
    let command = async |arguments: &[&str]| {
        let output = run(&[arguments, &["--database.url", &url, "--queries.dir", &queries]].concat()).await;
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, said) = command(&["init", "tasks"]).await;
    assert!(code == Some(0) && !said.contains("CREATE INDEX"), "{said}");
    let (code, said) = command(&["init", "\"Lines\""]).await;
    let index = said.lines().find_map(|line| Some(&line[line.find("CREATE INDEX")?..])).expect("an index");
    assert_eq!(code, Some(0), "{said}");
    let (code, text) = command(&["check"]).await;
    assert!(code == Some(1) && text.contains("no index of"), "{text}");
    source.db.batch(index).await;
    let (code, text) = command(&["check"]).await;
    assert_eq!(code, Some(0), "{text}");
    let (_, metrics) = command(&["once"]).await;
    assert!(metrics.contains("tasks_total{status=\"ok\"} 25") && metrics.contains("lines_total 50"), "{metrics}");
}
