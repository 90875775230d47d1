//! What the demo tells its user to look at.

use super::progress::grouped;

/// Shows where the exporter and the database are and what to try.
pub fn show(exporter: &str, database: &str, executions: u64) {
    let executions = grouped(executions);
    println!(
        "
The exporter has counted {executions} executions; more arrive every second.

  http://{exporter}/           status page
  http://{exporter}/metrics    what Prometheus scrapes

  curl -s http://{exporter}/metrics | grep executions_total
  curl -s http://{exporter}/metrics | grep rejected_values

The database it reads:

  psql {database}

Change a number by hand: finish all that is running, or delete the history,
and compare /metrics before and after. What was counted stays counted.

  psql {database} -c \"
    UPDATE validation_executions SET status = 'failed' WHERE status = 'running'\"
  psql {database} -c \"
    DELETE FROM mitigation_executions\"

Ctrl-C stops everything and removes it.
"
    );
}
