//! What the demo can be told.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Arg, Command, value_parser};

pub struct Options {
    /// Where the exporter listens.
    pub listen: SocketAddr,
    /// How long executions arrive; for ever without it.
    pub length: Option<Duration>,
}

impl Options {
    /// Reads the command line; ends the process at wrong usage, and at `--help`.
    pub fn from_command_line() -> Self {
        let matches = Command::new("demo")
            .about("Shows the exporter at work on a throwaway PostgreSQL server")
            .max_term_width(80)
            .arg(
                Arg::new("listen")
                    .long("listen")
                    .value_name("ADDRESS:PORT")
                    .value_parser(value_parser!(SocketAddr))
                    .default_value("127.0.0.1:10060")
                    .help("Where the exporter listens"),
            )
            .arg(
                Arg::new("for")
                    .long("for")
                    .value_name("DURATION")
                    .value_parser(|text: &str| humantime::parse_duration(text))
                    .help("Stop after a while, such as 30s, and check that every execution was counted once"),
            )
            .get_matches();
        Self { listen: *matches.get_one("listen").expect("it has a default"), length: matches.get_one("for").copied() }
    }
}
