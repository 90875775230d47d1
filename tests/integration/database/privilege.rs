//! What the exporter may do, does, and lets out.

use std::process::{Command, Stdio};

use crate::support::cluster::Cluster;
use crate::support::database::{Database, READ_ALL, connect};
use crate::support::execution::{Mitigation, Validation};
use crate::support::exporter::{self, Exporter};
use crate::support::metrics::Metrics;
use crate::support::source::Definitions;

/// A database with the role that `deploy/postgres/role.sql` makes, two validations and a mitigation.
async fn with_role() -> (Database<'static>, String) {
    let db = Database::new().await;
    // Roles are the cluster's, not the database's.
    let role = format!("{}_role", db.name);
    let mut psql = Command::new("psql");
    psql.args(["-X", "-q", "-v", &format!("role={role}"), "-f", "deploy/postgres/role.sql"]);
    let url = db.cluster().socket_url(&db.name);
    let output = psql.arg(url).stdin(Stdio::null()).output().expect("psql, from the package postgresql-client");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let repo = db.repository("RSOLV-dev/demo").await;
    db.insert(Validation::completed(repo, "{\"tests_generated\": 3}")).await;
    db.insert(Validation { status: "failed", ..Validation::completed(repo, "{}") }).await;
    db.insert(Mitigation { pr_number: Some(1), ..Mitigation::completed(repo, "{\"trust_score\": 85}") }).await;
    (db, role)
}

/// Whether the command succeeds, with all it says.
async fn run(arguments: &[&str]) -> (bool, String) {
    let output = exporter::run(arguments).await;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.success(), said.concat())
}

/// Definitions with one source of this SELECT, or rather of the one value `flag` in it.
fn queries(flag: &str) -> Definitions {
    let sql =
        format!("SELECT id, true AS done, completed_at AS at, 'x' AS x, {flag} AS flag FROM validation_executions");
    let toml = "labels = [\"x\", \"flag\"]\n[[counter]]\nname = \"own_total\"\nhelp = \"Rows.\"\n";
    Definitions::one("own", &sql, toml)
}

#[tokio::test]
async fn the_shipped_role_can_run_everything_and_needs_every_column() {
    let (db, role) = with_role().await;
    let url = db.url_as(&role);
    for command in ["once", "check", "sql"] {
        let (good, said) = run(&[command, "--database.url", &url]).await;
        assert!(good, "{command}: {said}");
    }
    let exporter = Exporter::start(&url, &["--poll.interval", "500ms"]).await;
    let metrics = exporter.wait_for("two validations", |m| m.is_up() && m.validations() == 2.0).await;
    assert_eq!(metrics.sum("rsolv_mitigation_pr_created_total", &[]), 1.0);

    let columns = "SELECT string_agg(table_name || '.' || column_name, ' ') FROM information_schema.column_privileges \
                   WHERE grantee = '{role}'";
    let columns = db.value(&columns.replace("{role}", &role)).await;
    assert_eq!(columns.split(' ').count(), 23, "{columns}");
    for column in columns.split(' ') {
        let (table, column) = column.split_once('.').unwrap();
        db.batch(&format!("REVOKE SELECT ({column}) ON {table} FROM {role}")).await;
        let (good, said) = run(&["once", "--database.url", &url]).await;
        assert!(!good && said.contains("permission denied for table"), "{table}.{column}: {said}");
        db.batch(&format!("GRANT SELECT ({column}) ON {table} TO {role}")).await;
    }
}

#[tokio::test]
async fn every_transaction_is_read_only() {
    let settings = [("log_statement", "all"), ("log_line_prefix", "%a|%p|")];
    let cluster = Cluster::start(&settings).unwrap();
    let db = Database::on(&cluster).await;
    let repo = db.repository("a/b").await;
    db.insert(Validation::completed(repo, "{}")).await;
    let hosts = format!("{}?target_session_attrs=primary", db.url());
    for command in ["once", "check", "sql"] {
        let (good, said) = run(&[command, "--database.url", &hosts]).await;
        assert!(good, "{command}: {said}");
    }
    let mut exporter = Exporter::start(&hosts, &["--poll.interval", "500ms"]).await;
    exporter.wait_for("a validation", |m| m.validations() == 1.0).await;
    exporter.wait_polls(2).await;
    exporter.terminate().await;

    let log = cluster.log();
    let (mut transactions, mut open) = (0, std::collections::BTreeSet::new());
    for line in log.lines() {
        let Some((pid, said)) = line.strip_prefix("rsolv-exporter|").and_then(|rest| rest.split_once('|')) else {
            continue;
        };
        let Some((_, statement)) = said.split_once("statement: ").or_else(|| said.split_once("execute <unnamed>: "))
        else {
            continue;
        };
        if statement.starts_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;") {
            transactions += 1;
            assert!(open.insert(pid), "{statement}");
        } else {
            assert!(open.contains(pid), "outside of a transaction: {statement}");
        }
        if statement == "COMMIT" {
            open.remove(pid);
        }
    }
    assert!(transactions > 6, "{transactions} transactions in\n{log}");

    // Nor can a SELECT that someone adds.
    db.batch(
        "CREATE TABLE written (); CREATE FUNCTION write() RETURNS text LANGUAGE sql AS \
         $$ INSERT INTO written DEFAULT VALUES; SELECT 'x' $$",
    )
    .await;
    let dir = queries("write()");
    let (good, said) = run(&[&["once", "--database.url", &db.url()], &dir.flags()[..]].concat()).await;
    assert!(!good && said.contains("read only transaction (SQLSTATE 25006)"), "{said}");
    assert_eq!(db.value("SELECT count(*) FROM written").await, "0");
}

#[tokio::test]
async fn the_search_path_is_pinned() {
    let (db, role) = with_role().await;
    // Each of these would be found first, were the role's search path used.
    db.batch(&format!(
        "CREATE SCHEMA decoy; GRANT USAGE ON SCHEMA decoy TO {role};
         CREATE TABLE decoy.validation_executions AS SELECT * FROM validation_executions LIMIT 0;
         CREATE TABLE decoy.mitigation_executions AS SELECT * FROM mitigation_executions LIMIT 0;
         CREATE FUNCTION decoy.trap() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'the decoy is used'; END $$;
         CREATE FUNCTION decoy.btrim(text, text) RETURNS text LANGUAGE sql AS 'SELECT decoy.trap()';
         CREATE FUNCTION decoy.pg_is_in_recovery() RETURNS boolean LANGUAGE sql AS 'SELECT decoy.trap() IS NULL';
         CREATE FUNCTION decoy.current_database() RETURNS name LANGUAGE sql AS 'SELECT decoy.trap()::name';
         CREATE FUNCTION decoy.has_function_privilege(text, text) RETURNS boolean
           LANGUAGE sql AS 'SELECT decoy.trap() IS NULL';
         GRANT SELECT ON ALL TABLES IN SCHEMA decoy TO {role};
         ALTER ROLE {role} SET search_path = decoy, pg_catalog, public"
    ))
    .await;
    let url = format!("{}?target_session_attrs=primary", db.url_as(&role));
    for command in ["once", "check", "sql"] {
        let (good, said) = run(&[command, "--database.url", &url]).await;
        assert!(good, "{command}: {said}");
    }
    let (_, said) = run(&["once", "--database.url", &url]).await;
    assert!(said.contains("rsolv_exporter_rows_counted_total{source=\"validation_executions\"} 2\n"), "{said}");
}

#[tokio::test]
async fn rows_hidden_by_a_policy_are_an_error() {
    let (db, role) = with_role().await;
    db.batch(
        "ALTER TABLE validation_executions ENABLE ROW LEVEL SECURITY;
         CREATE POLICY half ON validation_executions USING (status = 'completed')",
    )
    .await;
    let exporter = Exporter::start(&db.url_as(&role), &["--poll.interval", "500ms"]).await;
    // The second one comes after all is said about the first.
    let metrics = exporter.wait_for("failures", |m| m.failures("privilege") > 1.0).await;
    assert!(!metrics.is_up() && metrics.validations() == 0.0);
    let log = exporter.log();
    assert!(log.contains("row-level security policy"), "{log}");
}

/// What PostgreSQL says when it chokes on the contents of a row, quotes them.
#[tokio::test]
async fn what_a_row_says_is_shown_nowhere() {
    let db = Database::new().await;
    let repo = db.repository("a/b").await;
    db.insert(Validation::completed(repo, "{\"secret\": \"r0w_s3cret\"}")).await;
    db.batch(
        "CREATE FUNCTION complain(text) RETURNS text LANGUAGE plpgsql AS
           $$ BEGIN RAISE '%', $1 USING ERRCODE = 'insufficient_privilege'; END $$;
         CREATE FUNCTION run(text) RETURNS text LANGUAGE plpgsql AS
           $$ BEGIN EXECUTE $1; RETURN ''; END $$",
    )
    .await;
    for flag in [
        "('x' || S)::int",
        "S::date",
        "S::regclass",
        "S::regtype",
        "S::execution_status",
        "has_table_privilege(S, 'SELECT')::text",
        "set_config('role', S, true)",
        "set_config(S, '1', true)",
        "set_config('search_path', '1', true) || S::regproc",
        "complain(S)",
        "run('SELECT ' || S)",
        "run('SELECT ' || S || '.x FROM repositories')",
        "S::json",
        "S::numeric",
        "(('{\"a\": 1}'::jsonb || to_jsonb(S)) - S - 1)::text || S::int",
    ] {
        let dir = queries(&flag.replace('S', "(data ->> 'secret')"));
        let url = db.url();
        let arguments = [["--database.url", &url], dir.flags()].concat();
        let (good, said) = run(&[&["once", "--log.level", "debug"], &arguments[..]].concat()).await;
        // A row that makes the SELECT raise is left out, and said; anything else fails the source.
        assert!(
            said.contains("SQLSTATE") && (!good || said.contains("rsolv_exporter_failed_rows_total{source=\"own\"} 1")),
            "{flag}: {said}"
        );
        let (debug, rest): (Vec<&str>, Vec<&str>) = said.lines().partition(|line| line.contains("level=debug"));
        assert!(debug.iter().any(|line| line.contains("detail=")), "{flag}: {said}");
        assert!(!rest.concat().contains("s3cret"), "{flag}: {said}");
    }
    let dir = queries("((data ->> 'secret'))::regclass");
    let (good, said) = run(&[&["check", "--database.url", &db.url()], &dir.flags()[..]].concat()).await;
    assert!(!good && said.contains("SQLSTATE") && !said.contains("s3cret"), "{said}");
    let exporter = Exporter::start(&db.url(), &[["--poll.interval", "500ms"], dir.flags()].concat()).await;
    let page = exporter.wait_for("a failure", |m| !m.is_up() && m.failures("missing") > 1.0).await.text;
    let said = [page, exporter.log(), exporter.get("/").await.text(), exporter.get("/-/ready").await.text()].concat();
    assert!(!said.contains("s3cret"), "{said}");
}

/// A failure before any source is asked counts and is told as well.
#[tokio::test]
async fn a_catalog_that_may_not_be_read_is_a_failure() {
    let cluster = Cluster::start(&[]).unwrap();
    let db = Database::on(&cluster).await;
    let role = db.role(&[READ_ALL]).await;
    db.batch("REVOKE SELECT ON pg_database FROM PUBLIC").await;
    let exporter = Exporter::start(&db.url_as(&role), &["--poll.interval", "500ms"]).await;
    exporter.wait_for("failures", |m| !m.is_up() && m.failures("privilege") > 1.0).await;
    let log = exporter.log();
    assert_eq!(log.matches("permission denied for table pg_database").count(), 1, "{log}");
    let client = connect(&cluster.socket_url(&db.name)).await.unwrap();
    client.batch_execute("GRANT SELECT ON pg_database TO PUBLIC").await.unwrap();
    exporter.wait_for("success", Metrics::is_up).await;
}
