//! A poll that finds 100 new rows, beside a bare aggregate over them.

use serde_json::Value;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::report::{Report, median, short};
use crate::support::database::Database;
use crate::support::exporter;
use crate::support::failure::{Failure, Result};
use crate::tables;

/// New rows.
const TAIL: u64 = 100;
/// How often each statement runs, in turn.
const RUNS: usize = 41;

/// The statement that `rsolv-exporter sql` prints for the validations.
pub async fn composed(url: &str) -> Result<String> {
    let output = exporter::run(&["sql", "--database.url", url]).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let first = text.split(";\n\n").next().filter(|_| output.status.success());
    first.map(str::to_owned).ok_or_else(|| Failure::new(String::from_utf8_lossy(&output.stderr)))
}

/// What somebody who only wants these numbers of these rows would write over the same SELECT.
fn bare(high: &str) -> String {
    let buckets = [1000, 5000, 10000, 30000, 60000, 120_000, 300_000];
    let buckets = buckets.map(|le| format!("count(*) FILTER (WHERE duration_ms <= {le})")).join(", ");
    let select = include_str!("../../queries/validation_executions.sql");
    format!(
        "SELECT repo, language, framework, status, count(*), {buckets}, count(duration_ms), sum(duration_ms),
           sum(tests_generated::numeric), sum(tests_passed::numeric), sum(tests_failed::numeric),
           sum(vulnerabilities_found::numeric), max(at)
         FROM (\n{select}\n) AS e WHERE done AND id > {high} GROUP BY repo, language, framework, status"
    )
}

/// Execution and planning in milliseconds, and buffers.
async fn explain(client: &Client, statement: &str) -> Result<(f64, f64, f64)> {
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {statement}");
    let answer = client.simple_query(&explain).await?;
    let text = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let plan: Value = text.and_then(|t| serde_json::from_str(t).ok()).ok_or_else(|| Failure::new("no plan"))?;
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let root = &plan[0]["Plan"];
    let buffers = number(&root["Shared Hit Blocks"]) + number(&root["Shared Read Blocks"]);
    Ok((number(&plan[0]["Execution Time"]), number(&plan[0]["Planning Time"]), buffers))
}

/// Adds 100 rows and compares.
pub async fn measure(db: &Database<'_>, rows: u64, repositories: u64, report: &mut Report) -> Result<()> {
    let high = db.value("SELECT max(id) FROM validation_executions").await;
    let ours = composed(&db.url()).await?;
    // The same statement as a poll after the first one has it: nothing before the first id, and what is new.
    let all = format!("unnest('{{{}}}'::int8[], '{{{}}}'::int8[])", i64::MIN, i64::MAX);
    let next: i64 = high.parse::<i64>().map_err(|e| Failure::new(e.to_string()))? + 1;
    let tail = format!("unnest('{{{},{next}}}'::int8[], '{{0,{}}}'::int8[])", i64::MIN, i64::MAX);
    if !ours.contains(&all) {
        return Err(Failure::new("the statement of `sql` has changed: its range of all ids is not found"));
    }
    let statements = [ours.replacen(&all, &tail, 1), bare(&high)];
    tables::validations(db, TAIL, repositories).await;
    let client = db.client().await;
    // As the exporter's own transactions.
    client.batch_execute("SET jit = off; SET enable_sort = off; SET max_parallel_workers_per_gather = 0").await?;
    let (mut executed, mut planned, mut buffers) = ([vec![], vec![]], [vec![], vec![]], [0.0, 0.0]);
    for run in 0..RUNS {
        for i in 0..2 {
            let (execution, planning, blocks) = explain(&client, &statements[i]).await?;
            if run > 0 {
                executed[i].push(execution);
                planned[i].push(planning);
            }
            buffers[i] = blocks;
        }
    }
    let what = |what: &str| format!("steady poll, 100 new of {}: {what}", short(rows));
    let mut pair = |name: &str, values: [Vec<f64>; 2]| {
        let [ours, other] = values.map(median);
        report.line(what(name), format!("{ours:.2} ms"), &format!("bare aggregate {other:.2} ms"), Some(ours / other));
    };
    pair("execution", executed);
    pair("planning", planned);
    let [ours, other] = buffers;
    report.line(what("buffers"), format!("{ours}"), &format!("bare aggregate {other}"), Some(ours / other));
    Ok(())
}
