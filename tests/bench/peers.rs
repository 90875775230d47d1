//! Exporters that ask the whole table each time: the executions counter and the duration histogram of the validations,
//! as their users would write them.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::program::{self, LIMIT, Running, installed};
use crate::support::failure::{Failure, Result};
use crate::support::{http, ports};

/// Most need a statement for the counter and at least one for the histogram.
pub const COUNTER: &str = "SELECT r.full_path AS repo, coalesce(e.data->>'language', 'unknown') AS language, \
    coalesce(e.data->>'framework', 'none') AS framework, e.status::text AS status, count(*) AS total \
    FROM validation_executions e JOIN repositories r ON r.id = e.repository_id \
    WHERE e.status NOT IN ('pending', 'running') GROUP BY 1, 2, 3, 4";
const DURATIONS: &str = "SELECT r.full_path AS repo, coalesce(e.data->>'language', 'unknown') AS language, \
    coalesce(e.data->>'framework', 'none') AS framework, extract(epoch FROM e.completed_at - e.started_at) * 1000 AS ms \
    FROM validation_executions e JOIN repositories r ON r.id = e.repository_id WHERE e.status NOT IN ('pending', 'running')";
/// Upper bounds of the histogram.
pub const BUCKETS: &str = "1000, 5000, 10000, 30000, 60000, 120000, 300000";

/// What a page has of the same series, whoever made it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Content {
    /// Samples of repositories.
    pub samples: usize,
    /// Sum of the executions counter.
    pub executions: f64,
}

impl Content {
    /// Reads a page, in which the name of the executions counter begins like this.
    pub fn of(page: &str, counter: &str) -> Self {
        // When a series began is no series of its own.
        let samples = || page.lines().filter(|l| l.contains("acme/service-") && !l.contains("_created{"));
        let value = |line: &str| line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok()).unwrap_or(f64::NAN);
        let executions = samples().filter(|line| line.starts_with(counter)).map(value).sum();
        Self { samples: samples().count(), executions }
    }
}

/// One of them, ready to be started.
pub struct Peer {
    /// Also the role under which it logs in.
    pub name: &'static str,
    /// How the name of the executions counter on its page begins.
    counter: &'static str,
    /// Whether each scrape asks the database.
    pub asks_at_scrapes: bool,
    program: String,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

/// One that runs.
pub struct Started {
    pub address: String,
    counter: &'static str,
    _program: Running,
}

impl Peer {
    /// Those that are installed, and the names of the others. `url` gives the database's address for a role.
    pub fn all(url: impl Fn(&str) -> String, folder: &Path) -> Result<(Vec<Self>, Vec<&'static str>)> {
        let all = [
            Self::postgres_exporter(&url("postgres_exporter"), folder)?,
            Self::sql_exporter(&url("sql_exporter"), folder)?,
            Self::query_exporter(&url("query_exporter"), folder)?,
        ];
        let (here, missing): (Vec<_>, Vec<_>) = all.into_iter().partition(|peer| installed(&peer.program));
        Ok((here, missing.iter().map(|peer| peer.name).collect()))
    }

    fn postgres_exporter(url: &str, folder: &Path) -> Result<Self> {
        let label = |name: &str| format!("    - {name}:\n        usage: LABEL\n        description: {name}\n");
        let labels = ["repo", "language", "framework"].map(label).concat();
        let counts = BUCKETS.split(", ").map(|le| format!("count(*) FILTER (WHERE ms <= {le})")).collect::<Vec<_>>();
        let queries = format!(
            "bench_executions:\n  query: \"{COUNTER}\"\n  metrics:\n{labels}{}    - total:\n        usage: COUNTER\n        \
             description: finished\nbench_duration:\n  query: \"SELECT repo, language, framework, \
             ARRAY[{BUCKETS}]::float8[] AS ms, ARRAY[{}]::int8[] AS ms_bucket, sum(ms)::float8 AS ms_sum, \
             count(ms) AS ms_count FROM ({DURATIONS}) AS e GROUP BY 1, 2, 3\"\n  metrics:\n{labels}    - ms:\n        \
             usage: HISTOGRAM\n        description: duration\n",
            label("status"),
            counts.join(", ")
        );
        let file = folder.join("queries.yaml");
        std::fs::write(&file, queries)?;
        Ok(Self {
            name: "postgres_exporter",
            counter: "bench_executions_total{",
            asks_at_scrapes: true,
            program: "prometheus-postgres-exporter".to_owned(),
            arguments: vec![
                format!("--extend.query-path={}", file.display()),
                "--web.listen-address=ADDRESS".to_owned(),
                // Nothing but the two queries.
                "--disable-default-metrics".to_owned(),
                "--disable-settings-metrics".to_owned(),
                "--no-collector.database".to_owned(),
                "--no-collector.bgwriter".to_owned(),
            ],
            environment: vec![("DATA_SOURCE_NAME", format!("{url}?sslmode=disable"))],
        })
    }

    fn sql_exporter(url: &str, folder: &Path) -> Result<Self> {
        let query = |(name, labels, sql): &(&str, &str, String)| {
            format!(
                "    - name: {name}\n      help: {name}\n      labels: [{labels}]\n      values: [total]\n      \
                 query: \"{sql}\"\n"
            )
        };
        let url = url.replace("postgresql://", "postgres://");
        // It asks when it starts, and then not while others are measured.
        let config = format!(
            "jobs:\n- name: bench\n  interval: '1h'\n  connections: ['{url}?sslmode=disable']\n  queries:\n{}",
            one_value_each().iter().map(query).collect::<String>()
        );
        let file = folder.join("sql_exporter.yml");
        std::fs::write(&file, config)?;
        Ok(Self {
            name: "sql_exporter",
            counter: "sql_executions{",
            asks_at_scrapes: false,
            program: "prometheus-sql-exporter".to_owned(),
            arguments: vec![format!("-config.file={}", file.display()), "-web.listen-address=ADDRESS".to_owned()],
            environment: Vec::new(),
        })
    }

    fn query_exporter(url: &str, folder: &Path) -> Result<Self> {
        let url = url.replace("postgresql://", "postgresql+psycopg://");
        let queries = one_value_each();
        // The value's column has the metric's name. Its histograms count rows of results, and so every row again each
        // time: whoever counts in SQL exports counters by `le`.
        let metric = |(name, labels, _): &(&str, &str, String)| {
            format!("  {name}:\n    type: counter\n    description: {name}\n    labels: [{labels}]\n")
        };
        let query = |(name, _, sql): &(&str, &str, String)| {
            let sql = sql.replacen("AS total", &format!("AS {name}"), 1);
            format!("  {name}:\n    databases: [bench]\n    metrics: [{name}]\n    interval: 1h\n    sql: \"{sql}\"\n")
        };
        let config = format!(
            "databases:\n  bench:\n    dsn: {url}\nmetrics:\n{}queries:\n{}",
            queries.iter().map(metric).collect::<String>(),
            queries.iter().map(query).collect::<String>()
        );
        let file = folder.join("query_exporter.yaml");
        std::fs::write(&file, config)?;
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/query-exporter/bin/query-exporter");
        let arguments = ["--host", "127.0.0.1", "--port", "PORT", "--config"].map(str::to_owned);
        Ok(Self {
            name: "query_exporter",
            counter: "executions_total{",
            asks_at_scrapes: false,
            program: program.display().to_string(),
            arguments: arguments.into_iter().chain([file.display().to_string()]).collect(),
            environment: Vec::new(),
        })
    }

    /// Starts it.
    pub fn start(&self) -> Result<Started> {
        let port = ports::free_port();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(&self.program);
        command.args(self.arguments.iter().map(|a| a.replace("ADDRESS", &address).replace("PORT", &port.to_string())));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(Started { address, counter: self.counter, _program: program::start(command)? })
    }
}

impl Started {
    /// Scrapes until everything is there; returns how many seconds the last scrape took.
    pub async fn complete(&self, expected: Content) -> Result<f64> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let started = Instant::now();
            let page = http::get_within(&self.address, "/metrics", LIMIT).await.map(|r| r.text());
            let seconds = started.elapsed().as_secs_f64();
            let content = Content::of(page.as_deref().unwrap_or_default(), self.counter);
            if content == expected {
                return Ok(seconds);
            }
            if Instant::now() > deadline {
                let page = page.map_or_else(|error| error.to_string(), |page| page.lines().rev().take(3).collect());
                let text = format!("{content:?} instead of {expected:?} after {LIMIT:?}; the page ends:\n{page}");
                return Err(Failure::new(text));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The series for those who export one value per row of a result: names, labels and statements.
fn one_value_each() -> [(&'static str, &'static str, String); 4] {
    let own = "repo, language, framework";
    let from = format!("FROM ({DURATIONS}) AS e GROUP BY 1, 2, 3");
    let buckets = format!(
        "SELECT repo, language, framework, le::text, count(*) FILTER (WHERE ms <= le) AS total FROM ({DURATIONS}) AS e, \
         unnest(ARRAY[{BUCKETS}, 'Infinity']::float8[]) AS le GROUP BY 1, 2, 3, 4"
    );
    [
        ("executions", "repo, language, framework, status", COUNTER.to_owned()),
        ("duration_bucket", "repo, language, framework, le", buckets),
        ("duration_sum", own, format!("SELECT {own}, sum(ms)::float8 AS total {from}")),
        ("duration_count", own, format!("SELECT {own}, count(ms) AS total {from}")),
    ]
}
