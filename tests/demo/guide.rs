//! What the demo tells its user to look at.

use std::fmt::Write;
use std::path::Path;

use super::progress::grouped;
use super::watchers::Watchers;

/// Where everything is.
pub struct Places<'a> {
    /// The exporter's binary.
    pub program: &'a Path,
    /// Where it listens.
    pub exporter: &'a str,
    /// The database as its owner sees it.
    pub database: &'a str,
    /// The database as the exporter reads it.
    pub reader: &'a str,
    /// The exporter's state file.
    pub state: &'a str,
    pub watchers: &'a Watchers,
}

/// Commands to try, each with what it shows.
const COMMANDS: [(&str, &str); 4] = [
    ("is everything right?", "check"),
    (
        "which executions failed in the last hour, and why?",
        "rows 'rsolv_validation_executions_total{status=\"failed\"}' --since 1h",
    ),
    ("where does a number come from?", "sql rsolv_mitigation_pr_created_total"),
    ("do the buckets fit the values?", "buckets rsolv_validation_duration_milliseconds"),
];

/// Commands that say what a deletion did.
const AFTERWARDS: [(&str, &str); 2] = [
    ("the number stays, and the rows are known to be gone:", "rows rsolv_mitigation_executions_total --limit 5"),
    ("what of it is still in the table:", "sql rsolv_mitigation_executions_total"),
];

/// Shows where the exporter and the database are and what to try.
pub fn show(places: &Places<'_>, executions: u64) {
    let Places { exporter, database, watchers, .. } = places;
    let executions = grouped(executions);
    let link = |address: Option<&String>, package: &str| match address {
        Some(address) => format!("http://{address}/"),
        None => format!("not installed (apt-get install {package})"),
    };
    let prometheus = link(watchers.prometheus.as_ref().map(|server| &server.address), "prometheus");
    let alertmanager = link(watchers.alertmanager.as_ref().map(|server| &server.address), "prometheus-alertmanager");
    println!(
        "
The exporter has counted {executions} executions; more arrive every second.

  status page    http://{exporter}/
  metrics        http://{exporter}/metrics
  Prometheus     {prometheus}
  Alertmanager   {alertmanager}

Ask it, in another terminal:
{}
Change a number by hand: finish all that is running, or delete the history.
What was counted stays counted.

  psql {database} -c \"
    UPDATE validation_executions SET status = 'failed' WHERE status = 'running'\"
  psql {database} -c \"
    DELETE FROM mitigation_executions
    WHERE inserted_at < timezone('UTC', now()) - interval '1 minute'\"

And after that:
{}
Ctrl-C stops everything and removes it.
",
        places.commands(&COMMANDS),
        places.commands(&AFTERWARDS),
    );
}

impl Places<'_> {
    fn commands(&self, commands: &[(&str, &str)]) -> String {
        let Places { reader, state, .. } = self;
        // Shorter where the demo is started by make.
        let here = std::env::current_dir().unwrap_or_default();
        let program = self.program.strip_prefix(&here).unwrap_or(self.program).display();
        let mut text = String::new();
        for (what, command) in commands {
            // Long arguments get a line of their own.
            let command = command.replace(" '", " \\\n    '").replace("}' ", "}' \\\n    ");
            let into = if command.starts_with("sql") { format!(" \\\n    | psql {reader}") } else { String::new() };
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "\n  # {what}\n  {program} {command} \\\n    --database.url {reader} \\\n    --state.file {state}{into}"
            );
        }
        text
    }
}
