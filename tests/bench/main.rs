//! `make bench`: what the exporter costs, beside what people use today, on a throwaway PostgreSQL server.
//!
//! Everyone gets the same rows, runs are interleaved, and what is printed are medians and ratios. Timings are of the
//! machine and its mood; the ratios and the counts (buffers, bytes) say more.

#[path = "../support/mod.rs"]
mod support;

mod first_read;
mod footprint;
mod options;
mod peers;
mod report;
mod steady;
mod tables;

use std::process::ExitCode;

use options::Options;
use report::Report;
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
    let outcome = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(compare(&options)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn compare(options: &Options) -> Result<Report> {
    if cfg!(debug_assertions) {
        return Err(Failure::new("this is a debug build, whose timings mean nothing: cargo build --release"));
    }
    let cluster = Cluster::start(&SETTINGS)?;
    let mut report = Report::new(&cluster, options.repositories)?;
    for &rows in &options.rows {
        eprintln!("{rows} validations, {} mitigations: writing", rows / 2);
        let db = Database::on(&cluster).await;
        tables::fill(&db, rows, options.repositories).await;
        eprintln!("  first read");
        first_read::measure(&db, rows, options.pairs, &mut report).await?;
        eprintln!("  start with a state file");
        footprint::start(&db, rows, &mut report).await?;
        eprintln!("  steady poll");
        steady::measure(&db, rows, options.repositories, &mut report).await?;
        eprintln!("  peers");
        peers::measure(&cluster, &db, rows, &mut report).await?;
    }
    for series in [2_000, 100_000] {
        eprintln!("footprint with {series} series");
        footprint::measure(&cluster, series, &mut report).await?;
    }
    Ok(report)
}
