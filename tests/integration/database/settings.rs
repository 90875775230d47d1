//! Databases that are set up unlike most.

use serde_json::json;

use crate::support::cluster::Cluster;
use crate::support::database::{Database, SCHEMA};
use crate::support::execution::{Mitigation, Validation};
use crate::support::exporter::{self, Exporter};
use crate::support::source::Definitions;

/// The lines of `once` about executions.
async fn executions(db: &Database<'_>) -> String {
    let output = exporter::run(&["once", "--database.url", &db.url()]).await;
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}");
    let lines = text.lines().filter(|line| line.starts_with("rsolv_") && !line.starts_with("rsolv_exporter_"));
    lines.map(|line| format!("{line}\n")).collect()
}

#[tokio::test]
async fn other_defaults_change_no_number() {
    let (plain, odd) = (Database::new().await, Database::new().await);
    for (name, value) in [
        ("timezone", "Asia/Kathmandu"),
        ("datestyle", "SQL, DMY"),
        ("intervalstyle", "iso_8601"),
        ("standard_conforming_strings", "off"),
        ("backslash_quote", "off"),
        ("bytea_output", "escape"),
        ("extra_float_digits", "-15"),
        ("array_nulls", "off"),
        ("transform_null_equals", "on"),
        ("quote_all_identifiers", "on"),
        ("client_min_messages", "debug5"),
        ("client_encoding", "LATIN1"),
        ("default_transaction_isolation", "serializable"),
        ("default_transaction_read_only", "on"),
        ("default_transaction_deferrable", "on"),
        ("search_path", "pg_catalog"),
        ("enable_indexscan", "off"),
        ("jit_above_cost", "0"),
    ] {
        odd.batch(&format!("ALTER DATABASE {} SET {name} = '{value}'", odd.name)).await;
    }
    for db in [&plain, &odd] {
        let repo = db.repository("RSOLV-dev/it's a \"demo\"").await;
        let data = json!({"language": "C:\\n \u{e9}\u{1f600}", "framework": "it's \"so\"", "testsGenerated": "1e2"});
        let (started_at, completed_at) = ("'2026-11-03 01:02:03.456789'", "'2026-11-04 00:00:00.1'");
        let row = Validation::completed(repo, data);
        let at = |row: Validation| Validation {
            started_at: started_at.into(),
            completed_at: completed_at.into(),
            updated_at: completed_at.into(),
            ..row
        };
        db.insert(at(row.clone())).await;
        db.insert(at(Validation { status: "failed", error_message: Some("timed out".into()), ..row })).await;
        db.insert(Validation { started_at: started_at.into(), ..Validation::open(repo, "running", "{}") }).await;
        let row = Mitigation::completed(repo, json!({"trust_score": "99.5", "prUrl": "https://example"}));
        db.insert(Mitigation { started_at: started_at.into(), completed_at: completed_at.into(), ..row }).await;
    }
    let expected = executions(&plain).await;
    assert!(expected.contains("status=\"timeout\"} 1\n") && expected.contains("seconds 1793750400.1\n"), "{expected}");
    let shown = executions(&odd).await;
    let other: Vec<_> = shown.lines().zip(expected.lines()).filter(|(shown, expected)| shown != expected).collect();
    assert!(other.is_empty(), "{other:#?}");
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn times_become_text_the_same_way_under_other_defaults() {
    let db = Database::new().await;
    for (name, value) in [("timezone", "Asia/Kathmandu"), ("datestyle", "SQL, DMY"), ("intervalstyle", "iso_8601")] {
        db.batch(&format!("ALTER DATABASE {} SET {name} = '{value}'", db.name)).await;
    }
    db.batch(
        "CREATE TABLE own (id bigserial PRIMARY KEY, at timestamp); INSERT INTO own (at) VALUES ('20261104 01:02:03')",
    )
    .await;
    let sql = "SELECT id, true AS done, at, at::timestamptz::text AS zoned, (at - '20261103')::text AS since,
                 extract(epoch FROM at::timestamptz)::bigint::text AS epoch FROM own";
    let toml = "labels = [\"zoned\", \"since\", \"epoch\"]\n[[counter]]\nname = \"own_total\"\nhelp = \"Rows.\"\n";
    let dir = Definitions::one("own", sql, toml);
    let output = exporter::run(&[&["once", "--database.url", &db.url()], &dir.flags()[..]].concat()).await;
    let text = String::from_utf8_lossy(&output.stdout);
    let labels = "zoned=\"2026-11-04 01:02:03+00\",since=\"1 day 01:02:03\",epoch=\"1793754123\"";
    assert!(
        text.contains(&format!("own_total{{{labels}}} 1\n")),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn bytes_that_are_no_text_in_a_database_without_an_encoding() {
    let options = "TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'";
    let db = Database::create(Cluster::shared(), options).await.unwrap();
    db.batch(SCHEMA).await;
    let repo = db.repository("a/b").await;
    db.batch("UPDATE repositories SET full_path = E'a/caf\\xe9 \\xf0\\x9f\\x98\\x80'").await;
    for language in ["ru\\xe9", "ru\\xe8", "caf\u{e9}"] {
        let row = String::from(Validation::completed(repo, json!({"language": "LANGUAGE"})));
        db.insert(row.replace("LANGUAGE", language)).await;
    }
    let text = executions(&db).await;
    let language = |shown: &str, count: u32| {
        let labels = format!("repo=\"a/caf\u{fffd} \u{1f600}\",language=\"{shown}\",framework=\"none\"");
        let line = format!("rsolv_validation_executions_total{{{labels},status=\"completed\"}} {count}\n");
        assert!(text.contains(&line), "no {line} in\n{text}");
    };
    // What cannot be told apart when shown is one series.
    language("ru\u{fffd}", 2);
    language("caf\u{e9}", 1);

    // Nor does such a text break the words of an error.
    let sql = "SELECT id, true AS done, completed_at AS at, (data ->> 'language')::date::text AS x
               FROM validation_executions";
    let toml = "labels = [\"x\"]\n[[counter]]\nname = \"own_total\"\nhelp = \"Rows.\"\n";
    let dir = Definitions::one("own", sql, toml);
    let flags = [dir.flags(), ["--log.level", "debug"]].concat();
    let output = exporter::run(&[&["once", "--database.url", &db.url()], &flags[..]].concat()).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("SQLSTATE 22007"), "{said}");
}

#[tokio::test]
async fn partitioned_tables() {
    let db = Database::create(Cluster::shared(), "").await.unwrap();
    let end = "updated_at timestamp NOT NULL\n);\nCREATE TABLE mitigation_executions";
    let partitioned = end.replacen(")", ") PARTITION BY RANGE (id)", 1);
    assert_eq!(SCHEMA.matches(end).count(), 1);
    db.batch(&SCHEMA.replace(end, &partitioned)).await;
    let partition = |number: i64| {
        let (from, to) = (number * 5, number * 5 + 5);
        format!("CREATE TABLE part_{number} PARTITION OF validation_executions FOR VALUES FROM ({from}) TO ({to})")
    };
    for number in 0..3 {
        db.batch(&partition(number)).await;
    }
    let repo = db.repository("a/b").await;
    for _ in 0..12 {
        db.insert(Validation::completed(repo, "{}")).await;
    }
    let flags = ["--poll.interval", "500ms", "--series.birth-hold", "0s"];
    let exporter = Exporter::start(&db.url(), &flags).await;
    exporter.wait_for("twelve validations", |m| m.is_up() && m.validations() == 12.0).await;
    // Retention as partitioned tables have it, and the next partition.
    db.batch("DROP TABLE part_0; ALTER TABLE validation_executions DETACH PARTITION part_1").await;
    db.batch(&partition(3)).await;
    for _ in 0..5 {
        db.insert(Validation::completed(repo, "{}")).await;
    }
    exporter.wait_for("five more", |m| m.is_up() && m.validations() == 17.0).await;
    let metrics = exporter.wait_polls(2).await;
    assert_eq!(metrics.validations(), 17.0);
    assert_eq!(metrics.sum("rsolv_exporter_rewinds_total", &[]), 0.0, "{}", exporter.log());
}

#[tokio::test]
async fn config_says_what_is_in_force_and_where_it_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.toml");
    std::fs::write(&file, "[poll]\ninterval = \"7s\"\n").unwrap();
    let file = file.to_str().unwrap();
    let url = "postgres://u:s3cret@127.0.0.1:1/db";
    let output = exporter::run(&["config", "--config.file", file, "--database.url", url]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && !text.contains("s3cret"), "{text}");
    let line = |key: &str| {
        let line =
            text.lines().find(|line| line.starts_with(&format!("{key} "))).unwrap_or_else(|| panic!("{key}: {text}"));
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("database.url"), "postgres://u@127.0.0.1:1/db --database.url");
    assert_eq!(line("poll.interval"), format!("7s {file}"));
    assert_eq!(line("poll.stale_after"), "5m default");
    assert_eq!(line("state.file"), "not set");
    let wrong = exporter::run(&["config", "--database.url", url, "--series.limit", "0"]).await;
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("series.limit (--series.limit): must be"));
}
