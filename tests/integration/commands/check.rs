//! `check`: what the database holds, how it is read, and what is missing.

use serde_json::Value;

use crate::support::database::Database;
use crate::support::execution::Validation;
use crate::support::exporter::{Exporter, run};
use crate::support::rows::fill;
use crate::support::source::Definitions;
use crate::support::steady;

struct Checked {
    code: Option<i32>,
    text: String,
}

async fn check(url: &str, more: &[&str]) -> Checked {
    let output = run(&[&["check", "--database.url", url][..], more].concat()).await;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Checked { code: output.status.code(), text }
}

async fn json(url: &str, more: &[&str]) -> (Option<i32>, Value) {
    let checked = check(url, &[&["--format", "json"], more].concat()).await;
    (checked.code, serde_json::from_str(&checked.text).expect("JSON and nothing else"))
}

#[tokio::test]
async fn a_sound_database_is_explained_to_people() {
    let db = Database::new().await;
    fill(&db).await;
    let url = db.reader().await;
    let checked = check(&url, &[]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.text);
    let table = checked.text.lines().take_while(|line| *line != "warnings");
    let wide: Vec<&str> = table.filter(|line| line.chars().count() > 80 || line.ends_with(' ')).collect();
    assert!(wide.is_empty(), "wider than a terminal, or with spaces at the end: {wide:#?}");
    let text = steady::check(&checked.text);
    let lines = text.lines().filter(|line| !line.starts_with("database") && !line.starts_with("server"));
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n").replace(&db.name, "DATABASE"));
}

#[tokio::test]
async fn json_says_the_same_to_programs() {
    let db = Database::new().await;
    fill(&db).await;
    db.batch("ANALYZE").await;
    let (code, report) = json(&db.reader().await, &["--series.limit", "4"]).await;
    assert_eq!((code, &report["good"]), (Some(0), &Value::Bool(true)));
    assert!(report["clock"]["ahead_seconds"].as_f64().unwrap().abs() < 5.0);
    let source = &report["sources"][1];
    assert_eq!(source["name"], "mitigation_executions");
    assert_eq!(source["sample"]["rows"], 60);
    let rejected = source["sample"]["rejected"].as_array().unwrap();
    let high = rejected.iter().find(|r| r["reason"] == "is above 100").unwrap();
    assert_eq!((&high["column"], &high["examples"][0]), (&"trust_score".into(), &59.into()), "trust score 250");
    let series = source["sample"]["series"].as_array().unwrap();
    let first = series.iter().find(|s| s[0] == "rsolv_mitigation_pr_created_total").unwrap();
    assert_eq!(first[1], 5, "four sets and __overflow__");
}

#[tokio::test]
async fn the_statement_of_a_poll_goes_through_the_primary_key() {
    let db = Database::new().await;
    let repo = db.repository("org/app").await;
    let one: String = Validation::completed(repo, "{\"language\": \"go\"}").into();
    let many = one.replace(" VALUES (", " SELECT ").replace(") RETURNING id", " FROM generate_series(1, 30000)");
    db.batch(&many).await;
    db.batch("ANALYZE").await;
    let (code, report) = json(&db.reader().await, &[]).await;
    assert_eq!(code, Some(0), "{report}");
    let source = &report["sources"][0];
    assert_eq!(source["rows_estimated"], 30_000);
    let scans = source["plan"]["scans"].as_array().unwrap();
    let scan = scans.iter().find(|scan| scan["table"] == "validation_executions").unwrap();
    assert_eq!((&scan["index"], &scan["rows"]), (&"validation_executions_pkey".into(), &10_000.into()));
    assert!(source["plan"]["milliseconds"].as_f64().unwrap() > 0.0 && source["plan"]["cost"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn missing_privileges_come_with_the_grants_that_give_them() {
    let db = Database::new().await;
    db.batch("REVOKE USAGE ON SCHEMA public FROM public").await;
    let role = db.role(&["SELECT (id, status) ON mitigation_executions"]).await;
    let url = db.url_as(&role);
    let (code, report) = json(&url, &[]).await;
    assert_eq!(code, Some(1));
    let problems: Vec<&str> = report["problems"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    insta::assert_snapshot!(problems.join("\n").replace(&role, "ROLE"));
    let grants = problems.iter().flat_map(|problem| problem.lines());
    for grant in grants.map(|line| line.trim_start_matches("-> ")).filter(|line| line.starts_with("GRANT")) {
        db.batch(grant).await;
    }
    let checked = check(&url, &[]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.text);
    assert!(!checked.text.contains("can change"), "{}", checked.text);
    db.batch(&format!("GRANT UPDATE (status) ON validation_executions TO {role}")).await;
    let checked = check(&url, &[]).await;
    assert_eq!(checked.code, Some(0));
    assert!(checked.text.contains("can change public.validation_executions"), "{}", checked.text);
}

#[tokio::test]
async fn what_makes_numbers_wrong_is_a_problem() {
    let db = Database::new().await;
    fill(&db).await;
    let url = db.reader().await;
    let sql = "SELECT e.id, true AS done, e.completed_at AS at, e.status AS s FROM validation_executions AS e, generate_series(1, 2)";
    let toml = "labels = [\"s\"]\n[[counter]]\nname = \"x_total\"\nhelp = \"X.\"\n";
    let queries = Definitions::one("twice", sql, toml);
    let (code, report) = json(&url, &queries.flags()).await;
    assert_eq!(code, Some(1), "{report}");
    assert!(report["problems"][0].as_str().unwrap().contains("more than once"), "{report}");

    db.batch("ALTER TABLE validation_executions ENABLE ROW LEVEL SECURITY").await;
    let checked = check(&url, &[]).await;
    assert_eq!(checked.code, Some(1));
    assert!(checked.text.contains("BYPASSRLS"), "{}", checked.text);
    assert!(checked.text.contains("Not good"), "{}", checked.text);
}

/// The statements that a report advises.
fn advised(report: &Value) -> Vec<String> {
    let all = ["problems", "warnings"].into_iter().flat_map(|key| report[key].as_array().unwrap());
    let lines = all.filter_map(Value::as_str).flat_map(str::lines).map(|line| line.trim_start_matches("-> "));
    lines.filter(|line| line.starts_with("GRANT")).map(str::to_owned).collect()
}

#[tokio::test]
async fn one_round_of_grants_is_enough_for_views_functions_and_odd_names() {
    let db = Database::new().await;
    let (role, owner) = (format!("Bare {}", db.name), format!("owner_{}", db.name));
    db.batch(&format!(
        "CREATE ROLE \"{role}\" LOGIN; CREATE ROLE {owner};
         CREATE SCHEMA \"Odd Jobs\"; CREATE SCHEMA tools;
         CREATE TABLE \"Odd Jobs\".\"Jobs\" (id bigserial PRIMARY KEY, \"State\" text NOT NULL, team text, secret text);
         CREATE TABLE below (id bigint PRIMARY KEY, state text, hidden text);
         CREATE VIEW shown AS SELECT id, state FROM below;
         ALTER VIEW shown OWNER TO {owner};
         CREATE MATERIALIZED VIEW kept AS SELECT id, state FROM below; CREATE UNIQUE INDEX ON kept (id);
         CREATE FUNCTION tools.name(text, int) RETURNS text STABLE LANGUAGE sql AS 'SELECT $1';
         CREATE FUNCTION tools.name(text) RETURNS text STABLE LANGUAGE sql AS 'SELECT $1';
         REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA tools FROM public"
    ))
    .await;
    let url = db.url_as(&role);
    let queries = Definitions::none();
    let sources = [
        (
            "odd",
            "SELECT j.id, true AS done, now() AS at, tools.name(j.\"State\", 1) AS s FROM \"Odd Jobs\".\"Jobs\" AS j",
            "sequence = '\"Odd Jobs\".\"Jobs_id_seq\"'\n",
        ),
        ("shown", "SELECT v.id, true AS done, now() AS at, v.state AS s FROM shown AS v", ""),
        ("kept", "SELECT v.id, true AS done, now() AS at, v.state AS s FROM kept AS v", ""),
    ];
    for (name, sql, more) in sources {
        std::fs::write(queries.path().join(format!("{name}.sql")), sql).unwrap();
        let toml = format!("{more}labels = [\"s\"]\n[[counter]]\nname = \"{name}_total\"\nhelp = \"X.\"\n");
        std::fs::write(queries.path().join(format!("{name}.toml")), toml).unwrap();
    }
    let flags = queries.flags();
    let (code, report) = json(&url, &flags).await;
    assert_eq!(code, Some(1), "{report}");
    let grants = advised(&report);
    insta::assert_snapshot!(grants.join("\n").replace(&db.name, "DATABASE"));
    for grant in &grants {
        db.batch(grant).await;
    }
    let (code, report) = json(&url, &flags).await;
    assert_eq!((code, advised(&report)), (Some(0), Vec::new()), "{report}");
    let output = run(&[&["once", "--database.url", &url][..], &flags].concat()).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    db.batch(&format!("DROP OWNED BY \"{role}\", {owner}; DROP ROLE \"{role}\", {owner}")).await;
}

#[tokio::test]
async fn the_state_file_is_opened_as_a_start_would() {
    let db = Database::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let state = path.to_str().unwrap();
    let missing = folder.path().join("missing/state");
    for (flag, problem) in [(missing.to_str().unwrap(), "there is no folder"), ("/proc/state", "cannot be written")] {
        let checked = check(&db.url(), &["--state.file", flag]).await;
        assert!(checked.code == Some(1) && checked.text.contains(problem), "{}", checked.text);
    }
    std::fs::write(&path, "rsolv-exporter state 1 crc32 00000000 bytes 2\n{}").unwrap();
    let checked = check(&db.url(), &["--state.file", state]).await;
    assert!(checked.code == Some(1) && checked.text.contains("is damaged"), "{}", checked.text);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is put aside, and no lock is left");
    std::fs::remove_file(&path).unwrap();
    let exporter = Exporter::start(&db.url(), &["--state.file", state]).await;
    exporter.wait_polls(1).await;
    let checked = check(&db.url(), &["--state.file", state]).await;
    // Beside the exporter that runs that is no problem, and worth knowing.
    assert!(checked.code == Some(0) && checked.text.contains("another rsolv-exporter uses it"), "{}", checked.text);
}

#[tokio::test]
async fn sequences_that_are_not_there_are_named_with_the_right_one() {
    let db = Database::new().await;
    db.batch("CREATE TABLE own (id bigserial PRIMARY KEY); CREATE SEQUENCE other").await;
    let queries = Definitions::none();
    queries.write("own.sql", "SELECT id, true AS done, now() AS at FROM own");
    let flags = queries.flags();
    for (sequence, code, said) in [
        (
            "sequence = \"own_id_sequence\"",
            1,
            "own.toml: sequence: there is no sequence own_id_sequence; the ids come from own_id_seq",
        ),
        ("sequence = \"own\"", 1, "own.toml: sequence: is a table or a view, and no sequence own"),
        (
            "sequence = \"other\"",
            1,
            "own.toml: sequence: other is not the one of the table; the ids come from own_id_seq",
        ),
        ("", 0, "-> sequence = \"own_id_seq\""),
        ("sequence = \"public.own_id_seq\"", 0, "All good."),
    ] {
        let toml = format!("{sequence}\n[[counter]]\nname = \"x_total\"\nhelp = \"X.\"\n");
        queries.write("own.toml", toml);
        let checked = check(&db.url(), &flags).await;
        assert!(checked.code == Some(code) && checked.text.contains(said), "{said}\n{}", checked.text);
    }
}

#[tokio::test]
async fn what_the_server_advises_is_passed_on_and_an_error_on_a_row_is_told_from_one_in_the_text() {
    let db = Database::new().await;
    db.batch("CREATE TABLE own (id bigserial PRIMARY KEY, number int); INSERT INTO own (number) VALUES (0)").await;
    let queries = Definitions::none();
    queries.write("own.toml", "[[counter]]\nname = \"x_total\"\nhelp = \"X.\"\nsum = \"v\"\n");
    let flags = queries.flags();
    for (expression, said) in [
        ("numbr", "HINT: Perhaps you meant to reference the column \"own.number\"."),
        ("1 / number", "rows on which the SELECT raises are left out, of the newest those with id 1"),
    ] {
        let sql = format!("SELECT id, true AS done, now() AS at, {expression} AS v FROM own");
        queries.write("own.sql", sql);
        let checked = check(&db.url(), &flags).await;
        assert!(checked.code == Some(1) && checked.text.contains(said), "{said}\n{}", checked.text);
    }
}

#[tokio::test]
async fn once_says_that_it_leaves_the_state_file_alone() {
    let db = Database::new().await;
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let output = run(&["once", "--database.url", &db.url(), "--state.file", state.to_str().unwrap()]).await;
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("state.file is neither read nor written"));
    assert!(!state.exists());
}

#[tokio::test]
async fn rows_that_changed_after_they_were_counted_are_no_negative_share() {
    let db = Database::new().await;
    db.batch("CREATE TABLE own (id bigserial PRIMARY KEY, v int); INSERT INTO own (v) VALUES (1), (2)").await;
    let queries = Definitions::none();
    queries.add(
        "own",
        "SELECT id, true AS done, now() AS at, v FROM own",
        "[[counter]]\nname = \"x_total\"\nhelp = \"X.\"\nsum = \"v\"\n",
    );
    let state = queries.path().join("state");
    let flags = [queries.flags(), ["--state.file", state.to_str().unwrap()]].concat();
    let mut exporter = Exporter::start(&db.url(), &flags).await;
    exporter.wait_for("the sum", |metrics| metrics.sum("x_total", &[]) == 3.0).await;
    exporter.terminate().await;
    db.batch("UPDATE own SET v = 10 WHERE id = 1").await;
    for (command, said) in
        [("sql", "9 more, from rows that were changed"), ("rows", "9 more than the 3 that the state file has")]
    {
        let output = run(&[&[command, "x_total", "--database.url", &db.url()][..], &flags].concat()).await;
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && text.contains(said) && !text.contains("-9"), "{text}");
    }
}
