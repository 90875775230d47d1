//! Exporters that ask the whole table each time, from their Debian packages: the executions counter and the duration
//! histogram of the validations, as their users would write them.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::report::{Report, installed, median, short};
use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::exporter::Exporter;
use crate::support::failure::{Failure, Result};
use crate::support::scratch::Scratch;
use crate::support::{http, ports, process};

/// Both need a statement each for the counter and the histogram.
const COUNTER: &str = "SELECT r.full_path AS repo, coalesce(e.data->>'language', 'unknown') AS language, \
    coalesce(e.data->>'framework', 'none') AS framework, e.status::text AS status, count(*) AS total \
    FROM validation_executions e JOIN repositories r ON r.id = e.repository_id \
    WHERE e.status NOT IN ('pending', 'running') GROUP BY 1, 2, 3, 4";
const DURATIONS: &str = "SELECT r.full_path AS repo, coalesce(e.data->>'language', 'unknown') AS language, \
    coalesce(e.data->>'framework', 'none') AS framework, extract(epoch FROM e.completed_at - e.started_at) * 1000 AS ms \
    FROM validation_executions e JOIN repositories r ON r.id = e.repository_id WHERE e.status NOT IN ('pending', 'running')";
const BUCKETS: &str = "1000, 5000, 10000, 30000, 60000, 120000, 300000";

/// A program that is killed when this goes away.
struct Peer {
    child: Child,
    address: String,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    fn start(mut command: Command, port: u16) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = process::spawn(command, libc::SIGKILL)?;
        Ok(Self { child, address: format!("127.0.0.1:{port}") })
    }

    fn postgres_exporter(url: &str, scratch: &Scratch) -> Result<Self> {
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
        let file = scratch.path().join("queries.yaml");
        std::fs::write(&file, queries)?;
        let port = ports::free_port();
        let mut command = Command::new("prometheus-postgres-exporter");
        command
            .env("DATA_SOURCE_NAME", format!("{url}?sslmode=disable"))
            .arg(format!("--extend.query-path={}", file.display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        // Nothing but the two queries.
        command.args([
            "--disable-default-metrics",
            "--disable-settings-metrics",
            "--no-collector.database",
            "--no-collector.bgwriter",
        ]);
        Self::start(command, port)
    }

    fn sql_exporter(url: &str, scratch: &Scratch) -> Result<Self> {
        let query = |name: &str, labels: &str, sql: &str| {
            format!(
                "    - name: {name}\n      help: {name}\n      labels: [{labels}]\n      values: [total]\n      \
                 query: \"{sql}\"\n"
            )
        };
        let buckets = format!(
            "SELECT repo, language, framework, le::text, count(*) FILTER (WHERE ms <= le) AS total FROM ({DURATIONS}) AS e, \
             unnest(ARRAY[{BUCKETS}, 'Infinity']::float8[]) AS le GROUP BY 1, 2, 3, 4"
        );
        let sums = format!(
            "SELECT repo, language, framework, sum(ms)::float8 AS total FROM ({DURATIONS}) AS e GROUP BY 1, 2, 3"
        );
        let counts =
            format!("SELECT repo, language, framework, count(ms) AS total FROM ({DURATIONS}) AS e GROUP BY 1, 2, 3");
        let own = "repo, language, framework";
        let queries = [
            query("executions", "repo, language, framework, status", COUNTER),
            query("duration_bucket", "repo, language, framework, le", &buckets),
            query("duration_sum", own, &sums),
            query("duration_count", own, &counts),
        ];
        let url = url.replace("postgresql://", "postgres://");
        let config = format!(
            "jobs:\n- name: bench\n  interval: '5s'\n  connections: ['{url}?sslmode=disable']\n  queries:\n{}",
            queries.concat()
        );
        let file = scratch.path().join("config.yml");
        std::fs::write(&file, config)?;
        let port = ports::free_port();
        let mut command = Command::new("prometheus-sql-exporter");
        command.arg(format!("-config.file={}", file.display())).arg(format!("-web.listen-address=127.0.0.1:{port}"));
        Self::start(command, port)
    }

    /// Scrapes until something of ours is there, and returns the last page.
    async fn page(&self, mark: &str) -> Result<String> {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let text = http::get(&self.address, "/metrics").await.map(|r| r.text()).unwrap_or_default();
            if text.contains(mark) {
                return Ok(text);
            }
            if Instant::now() > deadline {
                let last = text.lines().rev().take(3).collect::<Vec<_>>().join("\n");
                return Err(Failure::new(format!("no {mark} after two minutes; the last lines are:\n{last}")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Milliseconds of planning and execution that the server has spent on others' statements in this database.
async fn spent(client: &Client) -> Result<f64> {
    let sql = "SELECT coalesce(sum(total_exec_time + total_plan_time), 0) FROM pg_stat_statements
               WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND query NOT LIKE '%pg_stat_statements%'";
    Ok(client.query_one(sql, &[]).await?.get(0))
}

fn samples(page: &str) -> usize {
    page.lines().filter(|l| l.contains("acme/service-")).count()
}

/// Requests per second of a page.
fn wrk(address: &str) -> Result<f64> {
    let output = Command::new("wrk").args(["-t1", "-c8", "-d2s", &format!("http://{address}/metrics")]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rate = text.lines().find_map(|l| l.trim().strip_prefix("Requests/sec:")?.trim().parse().ok());
    rate.ok_or_else(|| Failure::new(format!("wrk: {text}")))
}

/// The exporter with nothing but what the peers have.
async fn ours(db: &Database<'_>, scratch: &Scratch) -> Result<Exporter> {
    let dir = scratch.path().join("queries");
    std::fs::create_dir(&dir)?;
    let sql = include_str!("../../queries/validation_executions.sql");
    let toml = "labels = [\"repo\", \"language\", \"framework\"]\nmissing = { framework = \"none\" }\n\
        columns = { duration_ms = { min = 0 } }\n\
        [[counter]]\nname = \"bench_executions_total\"\nhelp = \"Finished.\"\nlabels = [\"status\"]\n\
        [[histogram]]\nname = \"bench_duration_milliseconds\"\nhelp = \"Durations.\"\nvalue = \"duration_ms\"\n";
    std::fs::write(dir.join("bench.sql"), sql)?;
    std::fs::write(dir.join("bench.toml"), format!("{toml}buckets = [{BUCKETS}]\n"))?;
    let dir = dir.display().to_string();
    let exporter = Exporter::start(&db.url(), &["--queries.dir", &dir, "--poll.interval", "100ms"]).await;
    exporter.wait_for("the first read", |m| m.sum("bench_executions_total", &[]) > 0.0).await;
    Ok(exporter)
}

/// Compares database time and requests per second with the peers that are installed.
pub async fn measure(cluster: &Cluster, db: &Database<'_>, rows: u64, report: &mut Report) -> Result<()> {
    let client = db.client().await;
    client.batch_execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements").await?;
    let scratch = Scratch::new("bench", &std::env::temp_dir(), None)?;
    let ours = ours(db, &scratch).await?;
    let polls = |m: crate::support::metrics::Metrics| m.sum("rsolv_exporter_polls_total", &[]);
    let (before, used) = (polls(ours.wait_polls(2).await), spent(&client).await?);
    let after = polls(ours.wait_polls(50).await);
    let per_poll = (spent(&client).await? - used) / (after - before);
    let at = short(rows);
    let url = cluster.url(&db.name);

    if installed("prometheus-postgres-exporter") {
        let peer = Peer::postgres_exporter(&url, &scratch)?;
        let page = peer.page("bench_duration_ms_bucket").await?;
        let mut each = Vec::new();
        for _ in 0..3 {
            let before = spent(&client).await?;
            peer.page("bench_duration_ms_bucket").await?;
            each.push(spent(&client).await? - before);
        }
        let theirs = median(each);
        let what = format!("database time of a scrape or poll at {at}, {} samples", samples(&page));
        report.line(
            what,
            format!("{per_poll:.2} ms"),
            &format!("postgres_exporter {theirs:.0} ms"),
            Some(theirs / per_poll),
        );
    }
    if installed("prometheus-sql-exporter") && installed("wrk") {
        let peer = Peer::sql_exporter(&url, &scratch)?;
        let page = peer.page("duration_count").await?;
        let page = if samples(&page) < 11 { peer.page("bucket").await? } else { page };
        drop(ours);
        let ours = self::ours(db, &Scratch::new("bench", &std::env::temp_dir(), None)?).await?;
        let mut rates = [vec![], vec![]];
        for _ in 0..3 {
            rates[0].push(wrk(&ours.address)?);
            rates[1].push(wrk(&peer.address)?);
        }
        let [own, theirs] = rates.map(median);
        let own_samples = samples(&ours.metrics().await.text);
        let what = format!("requests/s at {at}, {own_samples} and {} samples", samples(&page));
        report.line(what, format!("{own:.0}"), &format!("sql_exporter {theirs:.0}"), Some(own / theirs));
    }
    Ok(())
}
