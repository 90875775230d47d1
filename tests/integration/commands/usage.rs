//! The commands as a person uses them: what they say when something is wrong, and their exit status.

use std::process::Output;

use crate::support::database::{Database, READ_ALL};
use crate::support::execution::{Mitigation, Validation};
use crate::support::exporter;
use crate::support::steady;

/// A database with some rows: what the planner thinks of empty tables differs between versions.
async fn filled() -> Database<'static> {
    let db = Database::new().await;
    let repo = db.repository("a/b").await;
    for _ in 0..3 {
        db.insert(Validation::completed(repo, "{}")).await;
        db.insert(Mitigation::open(repo, "running", "{}")).await;
    }
    db.batch("ANALYZE").await;
    db
}

async fn check(url: &str, more: &[&str]) -> Output {
    exporter::run(&[&["check", "--database.url", url, "--log.level", "off"], more].concat()).await
}

/// The table that `check` prints fits a terminal; the status says whether all is well.
fn expect(output: &Output, status: i32) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(status), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let table = text.lines().take_while(|line| !["problems", "warnings"].contains(line));
    let wide: Vec<&str> = table.filter(|line| line.chars().count() > 80 || line.ends_with(' ')).collect();
    assert!(wide.is_empty(), "wider than a terminal, or with spaces at the end: {wide:#?}");
}

#[tokio::test]
async fn check_of_a_good_database() {
    let db = filled().await;
    let url = db.url_as(&db.role(&[READ_ALL]).await);
    let folder = tempfile::tempdir().unwrap();
    let output = check(&url, &["--state.file", folder.path().join("state").to_str().unwrap()]).await;
    expect(&output, 0);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    insta::assert_snapshot!(steady::check_on(&db, &output.stdout));
}

#[tokio::test]
async fn check_of_a_superuser_without_a_state_file() {
    let db = filled().await;
    let output = check(&db.url(), &[]).await;
    expect(&output, 0);
    insta::assert_snapshot!(steady::check_on(&db, &output.stdout));
}

#[tokio::test]
async fn check_of_missing_privileges() {
    let db = filled().await;
    let url = db.url_as(&db.role(&["SELECT ON repositories, mitigation_executions"]).await);
    let output = check(&url, &[]).await;
    expect(&output, 1);
    insta::assert_snapshot!(steady::check_on(&db, &output.stdout));
    let remedy = String::from_utf8_lossy(&output.stdout).lines().find_map(|line| {
        let (_, grant) = line.split_once("-> ")?;
        grant.split_once(';').map(|(grant, _)| grant.to_owned())
    });
    // What it says is what helps.
    db.batch(&remedy.expect("a remedy")).await;
    expect(&check(&url, &[]).await, 0);
}

#[tokio::test]
async fn check_of_a_missing_table_and_a_missing_column() {
    let db = Database::new().await;
    db.batch("DROP TABLE validation_executions; ALTER TABLE mitigation_executions RENAME pr_number TO pull_request")
        .await;
    let folder = tempfile::tempdir().unwrap();
    let output = check(&db.url(), &["--state.file", folder.path().join("state").to_str().unwrap()]).await;
    expect(&output, 1);
    insta::assert_snapshot!(steady::check_on(&db, &output.stdout));
}

#[tokio::test]
async fn check_of_a_select_that_does_not_fit_its_definition() {
    let db = Database::new().await;
    let directory = tempfile::tempdir().unwrap();
    let toml = "labels = [\"repo\", \"planet\"]\n[columns]\nmass = { min = 0 }\n[[counter]]\nname = \"x_total\"\n\
                help = \"X.\"\nwhere = \"issue\"\nlabels = [\"moon\"]\n[[counter]]\nname = \"y_total\"\nhelp = \"Y.\"\nwhere = \"alive\"\n";
    let sql = "SELECT commit_sha AS id, status AS done, commit_sha AS repo, issue_number AS issue\nFROM validation_executions";
    for (name, text) in [
        ("a.sql", sql),
        ("a.toml", toml),
        ("b.sql", "SELECT 1 AS id,\n  (1 + AS x"),
        ("b.toml", &toml.replace("_total", "_b_total")),
    ] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let queries = directory.path().to_str().unwrap();
    let output = check(&db.url(), &["--queries.dir", queries, "--state.file", &format!("{queries}/state")]).await;
    expect(&output, 1);
    insta::assert_snapshot!(steady::check_on(&db, &output.stdout));
}

#[tokio::test]
async fn check_of_a_database_that_is_not_there() {
    let db = Database::new().await;
    let url = db.url().replace(&db.name, "elsewhere");
    let output = exporter::run(&["check", "--database.url", &url]).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("database \"elsewhere\" does not exist (SQLSTATE 3D000)\n    -> check the database's name"),
        "{said}"
    );
}

#[tokio::test]
async fn wrong_settings_are_told_all_at_once() {
    let arguments = [
        "serve",
        "--poll.interval",
        "soon",
        "--poll.stale-after",
        "0s",
        "--series.limit",
        "0",
        "--web.listen-address",
        "here",
        "--web.telemetry-path",
        "metrics",
        "--log.format",
        "xml",
        "--database.url",
        "postgres://app:s3cret@db:port/x",
    ];
    let output = exporter::run(&arguments).await;
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("s3cret"), "{said}");
    insta::assert_snapshot!(said);
}

#[tokio::test]
async fn wrong_usage_is_status_2() {
    for arguments in [&["--no-such-flag"][..], &["dance"], &["once", "twice"], &[], &["--config.file", "/nowhere.toml"]]
    {
        let output = exporter::run(arguments).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(!said.is_empty());
    }
}

#[tokio::test]
async fn a_password_with_an_at_sign_shows_nothing_of_itself() {
    let url = "postgres://u:Hunter@TailOfSecret@127.0.0.1:1/db";
    for command in ["serve", "check", "once"] {
        let output = exporter::run(&[command, "--database.url", url]).await;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        assert!(said.contains("in a password, @ is written %40"), "{command}: {said}");
        assert!(!said.contains("Hunter") && !said.contains("TailOfSecret"), "{command}: {said}");
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_status_1() {
    let db = Database::new().await;
    let nobody = "postgres://app:s3cret@127.0.0.1:1/x".to_owned();
    let missing = db.url().replace(&db.name, "no_such_database");
    for command in ["once", "check", "sql"] {
        for (url, words) in [(&nobody, "Connection refused"), (&missing, "\"no_such_database\" does not exist")] {
            let output = exporter::run(&[command, "--database.url", url]).await;
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert_eq!(output.status.code(), Some(1), "{command}: {said}");
            assert!(said.contains(words) && !said.contains("s3cret"), "{command}: {said}");
        }
    }
}

#[tokio::test]
async fn once_prints_what_it_can_and_fails() {
    let db = Database::new().await;
    db.batch("DROP TABLE validation_executions").await;
    let output = exporter::run(&["once", "--database.url", &db.url()]).await;
    assert_eq!(output.status.code(), Some(1));
    let (text, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("\nrsolv_mitigation_executions_open{status=\"running\"} 0\n"), "{text}");
    assert!(text.contains("\nrsolv_exporter_up 0\n") && !text.contains("web_config"), "{text}");
    // The failure is said once, and not in the log too.
    let said: String = said.lines().filter(|line| !line.contains("level=info")).map(|l| format!("{l}\n")).collect();
    assert_eq!(
        said,
        "rsolv-exporter: validation_executions.sql, line 32: relation \"validation_executions\" does not exist (SQLSTATE 42P01)\n"
    );
}
