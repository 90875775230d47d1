//! `make demo`: the exporter at work on a throwaway PostgreSQL server, with
//! some months of made-up history and executions that arrive live.
//!
//! [`history`] and [`arrivals`] write rows; each row is a [`story`] about a
//! [`repository`], drawn from a seeded [`random`] sequence. [`guide`] says what
//! to look at, [`progress`] what is going on.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a demo that cannot go on ends"
)]

#[path = "../support/mod.rs"]
mod support;

mod application;
mod arrivals;
mod guide;
mod history;
mod options;
mod progress;
mod random;
mod repository;
mod story;
mod watchers;

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_postgres::Client;

use arrivals::Writer;
use guide::Places;
use options::Options;
use progress::{Status, grouped};
use support::cluster::Cluster;
use support::database::{SCHEMA, connect};
use support::exporter::{Exporter, program};
use support::failure::{Failure, Result};
use support::http::{self, Response};
use support::metrics::Metrics;
use support::process::{PATIENCE, TICK};
use support::scratch::Scratch;

/// The exporter only needs to read.
const READER: &str = "
    CREATE ROLE rsolv_exporter LOGIN;
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO rsolv_exporter;
    GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO rsolv_exporter;";

/// Notes each execution that finishes, by whomever: the demo's own numbers hold when somebody changes rows by hand.
const COUNT_FINISHED: &str = "
    CREATE SCHEMA demo;
    CREATE TABLE demo.finished ();
    CREATE FUNCTION demo.note() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF NEW.status NOT IN ('pending', 'running') AND (TG_OP = 'INSERT' OR OLD.status IN ('pending', 'running')) THEN
        INSERT INTO demo.finished DEFAULT VALUES;
      END IF;
      RETURN NULL;
    END $$;
    CREATE TRIGGER note AFTER INSERT OR UPDATE ON validation_executions FOR EACH ROW EXECUTE FUNCTION demo.note();
    CREATE TRIGGER note AFTER INSERT OR UPDATE ON mitigation_executions FOR EACH ROW EXECUTE FUNCTION demo.note();";

fn main() -> ExitCode {
    let options = Options::from_command_line();
    let outcome = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(until_interrupted(&options)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Plays the demo to its end or to the first signal. Either way everything it
/// has started is gone when this returns.
async fn until_interrupted(options: &Options) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        outcome = play(options) => return outcome,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    eprintln!("stopped; the server and its files are gone");
    Ok(())
}

async fn play(options: &Options) -> Result<()> {
    must_be_free(options.listen)?;
    eprintln!("starting a throwaway PostgreSQL server");
    let cluster = Cluster::start(&[])?;
    let client = create_database(&cluster).await?;
    let history = history::write(&client, options.application).await?;
    client.batch_execute(COUNT_FINISHED).await?;
    let url = cluster.url("rsolv");
    let finished = Finished { history, client: connect(&url).await? };

    eprintln!("starting the exporter");
    let scratch = Scratch::new("demo", &std::env::temp_dir(), None)?;
    let state = scratch.path().join("state").display().to_string();
    let reader = url.replacen("postgres@", "rsolv_exporter@", 1);
    let mut exporter = start_exporter(&reader, options.listen, &state).await?;
    let counted = first_read(&mut exporter).await?;
    let watchers = watchers::start(&exporter.address).await?;
    let program = program();
    let places = Places {
        program: &program,
        exporter: &exporter.address,
        database: &url,
        reader: &reader,
        state: &state,
        watchers: &watchers,
    };
    guide::show(&places, counted);

    let (stop, stopped) = watch::channel(false);
    let mut writer = Box::pin(Writer::new(client, options.application, stopped).run(&url));
    tokio::select! {
        outcome = &mut writer => return outcome.map_err(|error| {
            Failure::new(format!("cannot write executions any more: {error}"))
        }),
        outcome = report(&mut exporter, &finished) => return outcome,
        () = after(options.length) => {}
    }
    stop.send_replace(true);
    writer.await?;
    check(&mut exporter, finished.so_far().await?).await
}

/// How many executions have finished and are committed.
struct Finished {
    history: u64,
    client: Client,
}

impl Finished {
    async fn so_far(&self) -> Result<u64> {
        let since: i64 = self.client.query_one("SELECT count(*) FROM demo.finished", &[]).await?.get(0);
        Ok(self.history + since.unsigned_abs())
    }
}

/// Says so before anything is started when somebody else listens already.
fn must_be_free(address: SocketAddr) -> Result<()> {
    TcpListener::bind(address).map(drop).map_err(|error| {
        Failure::new(format!(
            "the exporter cannot listen on {address}: {error}.\n\
             Stop what listens there, or choose another address:\n  \
             make demo DEMO=\"--listen 127.0.0.1:{}\"",
            address.port().saturating_add(1)
        ))
    })
}

async fn create_database(cluster: &Cluster) -> Result<Client> {
    let admin = connect(&cluster.url("postgres")).await?;
    admin.batch_execute("CREATE DATABASE rsolv").await?;
    let client = connect(&cluster.url("rsolv")).await?;
    client.batch_execute(SCHEMA).await?;
    client.batch_execute(READER).await?;
    Ok(client)
}

async fn start_exporter(reader: &str, listen: SocketAddr, state: &str) -> Result<Exporter> {
    let settings = [
        ["--database.url", reader],
        ["--web.listen-address", &listen.to_string()],
        ["--state.file", state],
        // Somebody is watching.
        ["--poll.interval", "2s"],
        ["--series.birth-hold", "5s"],
    ];
    // The data is made up, and shown on loopback only.
    Exporter::launch(settings.as_flattened(), &[("RSOLV_EXPORTER_WEB__SHOW_DETAILS", "true")]).await
}

/// Waits until the history has been read, returns how much that was.
async fn first_read(exporter: &mut Exporter) -> Result<u64> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ready = get(exporter, "/-/ready").await?;
        if ready.status == 200 {
            return counted(exporter).await;
        }
        if Instant::now() >= deadline {
            let text = format!("the exporter is not ready after {PATIENCE:?}: {}", ready.text());
            return Err(Failure::new(format!("{text}\n{}", exporter.log())));
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Shows again and again how far writer and exporter are.
async fn report(exporter: &mut Exporter, finished: &Finished) -> Result<()> {
    let status = Status::new();
    let period = Duration::from_secs(if status.is_live() { 1 } else { 10 });
    let mut ticks = tokio::time::interval(period);
    loop {
        ticks.tick().await;
        let counted = grouped(counted(exporter).await?);
        let finished = grouped(finished.so_far().await?);
        status.show(&format!("executions finished: {finished}   counted: {counted}"));
    }
}

/// Waits until exactly what was written has been counted.
async fn check(exporter: &mut Exporter, written: u64) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let counted = counted(exporter).await?;
        if counted == written {
            println!("{} executions finished, and each was counted once", grouped(written));
            return Ok(());
        }
        if counted > written || Instant::now() >= deadline {
            let text = format!("{written} executions finished, but {counted} were counted");
            return Err(Failure::new(text));
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Executions in `/metrics`, of both kinds and every status.
async fn counted(exporter: &mut Exporter) -> Result<u64> {
    let metrics = Metrics::parse(&get(exporter, "/metrics").await?.text());
    let kinds = ["rsolv_validation_executions_total", "rsolv_mitigation_executions_total"];
    Ok(kinds.map(|name| metrics.sum(name, &[])).iter().sum::<f64>() as u64)
}

/// GETs a path; where the exporter has ended, that is the error rather than
/// the connection that failed.
async fn get(exporter: &mut Exporter, path: &str) -> Result<Response> {
    let response = http::get(&exporter.address, path).await;
    // The connection can break some time before the process is gone.
    let grace = Duration::from_secs(if response.is_ok() { 0 } else { 1 });
    let Some(status) = exporter.ends_within(grace).await? else { return response };
    let tail = support::process::tail(&exporter.log(), 20);
    Err(Failure::new(format!("the exporter has ended by itself ({status}); its log ends:\n{tail}")))
}

async fn after(length: Option<Duration>) {
    match length {
        Some(length) => tokio::time::sleep(length).await,
        None => std::future::pending().await,
    }
}
