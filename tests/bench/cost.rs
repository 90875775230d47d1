//! What statements have cost the server.

use tokio_postgres::Client;

use crate::support::cluster::Cluster;
use crate::support::database::{Database, connect};
use crate::support::failure::Result;

/// Who is measured; each logs in under its own name, by which the server tells them apart.
pub const ROLES: [&str; 6] =
    ["ours", "steady_poll", "bare_aggregate", "postgres_exporter", "sql_exporter", "query_exporter"];

/// Statements of one role in one database since they were first seen.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Milliseconds of execution, parallel workers not added.
    pub executed: f64,
    /// Milliseconds of planning.
    pub planned: f64,
    /// Buffers hit or read.
    pub buffers: f64,
    /// How many of the statements had the SELECT of a source in them.
    pub calls: f64,
}

impl Cost {
    /// What has been added since an earlier look.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            executed: self.executed - earlier.executed,
            planned: self.planned - earlier.planned,
            buffers: self.buffers - earlier.buffers,
            calls: self.calls - earlier.calls,
        }
    }

    /// Planning and execution.
    pub fn time(self) -> f64 {
        self.executed + self.planned
    }
}

/// Creates the roles; they may do everything.
pub async fn roles(cluster: &Cluster) -> Result<()> {
    let client = connect(&cluster.socket_url("postgres")).await?;
    for role in ROLES {
        client.batch_execute(&format!("CREATE ROLE {role} LOGIN SUPERUSER")).await?;
    }
    Ok(())
}

/// Makes the costs visible in a database.
pub async fn watch(db: &Database<'_>) -> Result<()> {
    Ok(db.client().await.batch_execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements").await?)
}

/// The address of a database for a role.
pub fn url(db: &Database<'_>, role: &str) -> String {
    db.url().replacen("//postgres@", &format!("//{role}@"), 1)
}

const OF_ROLE: &str = "FROM pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND userid = $1::text::regrole
      AND query NOT LIKE '%pg_stat_statements%'";

/// All that a role's statements have cost so far.
pub async fn of(client: &Client, role: &str) -> Result<Cost> {
    let sql = format!(
        "SELECT coalesce(sum(total_exec_time), 0)::float8, coalesce(sum(total_plan_time), 0)::float8,
           coalesce(sum(shared_blks_hit + shared_blks_read), 0)::float8,
           coalesce(sum(calls) FILTER (WHERE query LIKE '%) AS execution%'), 0)::float8 {OF_ROLE}"
    );
    let row = client.query_one(&sql, &[&role]).await?;
    Ok(Cost { executed: row.get(0), planned: row.get(1), buffers: row.get(2), calls: row.get(3) })
}

/// Milliseconds of one run of each of a role's statements on the validations, and how often each has run.
pub async fn of_one_round(client: &Client, role: &str) -> Result<(f64, i64)> {
    let sql = format!(
        "SELECT coalesce(sum((total_exec_time + total_plan_time) / calls), 0)::float8, coalesce(min(calls), 0) {OF_ROLE}
           AND query LIKE '%validation_executions%'"
    );
    let row = client.query_one(&sql, &[&role]).await?;
    Ok((row.get(0), row.get(1)))
}
