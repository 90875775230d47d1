//! A poll that finds 100 new rows, beside a bare aggregate over them.

use serde_json::Value;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::cost::{self, Cost};
use crate::report::{Goal, Report, median, ms};
use crate::statement::Composed;
use crate::support::database::{Database, connect};
use crate::support::failure::{Failure, Result};
use crate::tables;

/// New rows.
const TAIL: u64 = 100;
/// How often each statement runs, in turn.
const RUNS: usize = 60;

/// What a steady poll cost: medians.
#[derive(Clone, Copy)]
pub struct Steady {
    /// Milliseconds.
    pub executed: f64,
    pub buffers: f64,
}

/// What somebody who only wants these numbers of these rows would write over the same SELECT: the same groups, buckets
/// and sums, but no check of any value, and nothing that remembers which rows were counted.
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

/// Buffers of an execution without its planning.
async fn buffers(client: &Client, statement: &str) -> Result<f64> {
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {statement}");
    let answer = client.simple_query(&explain).await?;
    let text = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let plan: Value = text.and_then(|t| serde_json::from_str(t).ok()).ok_or_else(|| Failure::new("no plan"))?;
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let root = &plan[0]["Plan"];
    Ok(number(&root["Shared Hit Blocks"]) + number(&root["Shared Read Blocks"]))
}

/// Adds 100 rows and compares.
pub async fn measure(db: &Database<'_>, repositories: u64, report: &mut Report) -> Result<Steady> {
    let high = db.value("SELECT max(id) FROM validation_executions").await;
    let next = high.parse::<i64>().map_err(|e| Failure::new(e.to_string()))? + 1;
    let composed = Composed::of(&db.url()).await?;
    let statements = [composed.from(next)?, bare(&high)];
    tables::validations(db, TAIL, repositories).await;
    let watcher = db.client().await;
    let roles = ["steady_poll", "bare_aggregate"];
    let mut clients = Vec::new();
    for role in roles {
        let client = connect(&cost::url(db, role)).await?;
        // Both in a transaction like the exporter's.
        client.batch_execute(composed.opening()?).await?;
        clients.push(client);
    }
    let (mut executed, mut planned) = ([vec![], vec![]], [vec![], vec![]]);
    for run in 0..=RUNS {
        for i in [run % 2, 1 - run % 2] {
            // The clock of the server without EXPLAIN's, which costs more the more nodes and loops a plan has.
            let before = cost::of(&watcher, roles[i]).await?;
            clients[i].simple_query(&statements[i]).await?;
            let Cost { executed: execution, planned: planning, .. } = cost::of(&watcher, roles[i]).await?.since(before);
            // The first warmed up.
            if run > 0 {
                executed[i].push(execution);
                planned[i].push(planning);
            }
        }
    }
    let [ours, other] = executed.map(median);
    let steady = Steady { executed: ours, buffers: buffers(&clients[0], &statements[0]).await? };
    let bare = buffers(&clients[1], &statements[1]).await?;
    let goal = Goal::AtMost(1.3);
    report.compare("steady poll, bare aggregate", ms(ours), ms(other), ours / other, goal);
    let [ours, other] = planned.map(median);
    report.compare("… planning", ms(ours), ms(other), ours / other, Goal::None);
    let ratio = steady.buffers / bare;
    report.compare("… buffers", format!("{}", steady.buffers), format!("{bare}"), ratio, Goal::None);
    Ok(steady)
}

/// Compares with what it cost when the history was shorter.
pub fn compare(now: Steady, then: Steady, size: &str, report: &mut Report) {
    let what = format!("steady poll, with {size} rows");
    let ratio = now.executed / then.executed;
    report.compare(&what, ms(now.executed), ms(then.executed), ratio, Goal::AtMost(1.2));
    let (ours, other) = (format!("{}", now.buffers), format!("{}", then.buffers));
    report.compare("… buffers", ours, other, now.buffers / then.buffers, Goal::AtMost(1.2));
}
