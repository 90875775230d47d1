//! `make bench`: what the exporter costs, beside what people use today, on a throwaway PostgreSQL server.
//!
//! Everyone gets the same rows, runs are interleaved, and what is printed are medians and ratios. Timings are of the
//! machine and its mood; the ratios and the counts (buffers, bytes) say more.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a measurement that cannot go on ends"
)]

#[path = "../support/mod.rs"]
mod support;

mod bounded;
mod contest;
mod cost;
mod endurance;
mod first_read;
mod footprint;
mod options;
mod peers;
mod program;
mod report;
mod statement;
mod steady;
mod tables;
mod tail;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use options::Options;
use report::{Report, short};
use support::cluster::Cluster;
use support::database::Database;
use support::failure::{Failure, Result};

/// Memory as a small server has it, and the clock of each statement.
const SETTINGS: [(&str, &str); 6] = [
    ("shared_buffers", "512MB"),
    ("autovacuum", "off"),
    ("max_wal_size", "4GB"),
    ("shared_preload_libraries", "pg_stat_statements"),
    ("pg_stat_statements.track_planning", "on"),
    ("track_io_timing", "off"),
];

fn main() -> ExitCode {
    let options = Options::from_command_line();
    let started = Instant::now();
    let outcome = match tokio::runtime::Runtime::new() {
        // What is dropped at the deadline ends what it has started.
        Ok(runtime) => runtime.block_on(async {
            let late = || Failure::new(format!("gave up after {:?}; --minutes allows for more", options.limit));
            tokio::time::timeout(options.limit, compare(&options)).await.unwrap_or_else(|_| Err(late()))
        }),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(report) => {
            print!("{report}");
            eprintln!("\nThat took {:.0} minutes.", started.elapsed().as_secs_f64() / 60.0);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Says what is missing before anything has taken long.
fn check(options: &Options) -> Result<()> {
    if cfg!(debug_assertions) {
        return Err(Failure::new("this is a debug build, whose timings mean nothing: cargo build --release"));
    }
    for (program, package) in [("psql", "postgresql-client"), ("wrk", "wrk")] {
        if !options.is_alone() && !program::installed(program) {
            return Err(Failure::new(format!("no {program} on PATH; it is in the package {package}")));
        }
    }
    let exporter = support::exporter::program();
    if !exporter.exists() {
        return Err(Failure::new(format!("no {}: cargo build --release makes it", exporter.display())));
    }
    Ok(())
}

async fn compare(options: &Options) -> Result<Report> {
    check(options)?;
    let cluster = Cluster::start(&SETTINGS)?;
    let mut report = Report::new(&cluster, "shared_buffers 512 MB, fsync off, autovacuum off")?;
    if options.polls > 0 {
        endurance::measure(&cluster, options.polls, &mut report).await?;
        return Ok(report);
    }
    cost::roles(&cluster).await?;
    if options.only_bounded {
        bounded::measure(&cluster, options.pairs, &mut report).await?;
        return Ok(report);
    }
    let mut smallest = BTreeMap::new();
    for &rows in &options.rows {
        for &repositories in &options.repositories {
            report.section(contest::title(rows, repositories));
            let db = Database::on(&cluster).await;
            tables::fill(&db, rows, repositories).await;
            cost::watch(&db).await?;
            first_read::measure(&db, options.pairs, &mut report).await?;
            let steady = steady::measure(&db, repositories, &mut report).await?;
            match smallest.get(&repositories) {
                Some(&(size, then)) => steady::compare(steady, then, &short(size), &mut report),
                None => _ = smallest.insert(repositories, (rows, steady)),
            }
            contest::measure(&db, rows, repositories, options.pairs, &mut report).await?;
            // It needs one more read of the history.
            if options.repositories.first() == Some(&repositories) {
                footprint::start(&db, rows, &mut report).await?;
            }
        }
    }
    if let (Some(&rows), Some(&repositories)) = (options.rows.first(), options.repositories.first()) {
        let db = Database::on(&cluster).await;
        tables::fill(&db, rows, repositories).await;
        cost::watch(&db).await?;
        report.section(format!("New rows, {} old ones, {} repositories", short(rows), short(repositories)));
        tail::measure(&db, repositories, &mut report).await?;
        if !options.flood.is_zero() {
            report.section("10,000 new rows a second, 15 s from poll to poll");
            tail::flood(&db, repositories, options.flood, &mut report).await?;
        }
    }
    bounded::measure(&cluster, options.pairs, &mut report).await?;
    for series in [2_000, 10_000, 100_000] {
        report.section(format!("The exporter itself, {} series", short(series)));
        footprint::measure(&cluster, series, &mut report).await?;
    }
    Ok(report)
}
