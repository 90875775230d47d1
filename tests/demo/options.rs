//! What the demo can be told.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use clap::{Arg, Command, value_parser};

use super::application::Application;

pub struct Options {
    /// Where the exporter listens.
    pub listen: SocketAddr,
    /// How long executions arrive; for ever without it.
    pub length: Option<Duration>,
    /// How the application works whose executions arrive.
    pub application: Application,
}

impl Options {
    /// Reads the command line; ends the process at wrong usage, and at `--help`.
    pub fn from_command_line() -> Self {
        let mut command = Command::new("demo")
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
            .arg(
                Arg::new("executable-tests")
                    .long("executable-tests")
                    .value_name("BOOLEAN")
                    .help("Whether validations write tests and run them [default: true]"),
            )
            .arg(
                Arg::new("claude-max-turns")
                    .long("claude-max-turns")
                    .value_name("NUMBER")
                    .help("A mitigation gives up after so many turns, 1 to 20 [default: 5]"),
            )
            .after_help(
                "The last two are settings of the application whose executions the demo makes up:\nalso \
                 RSOLV_EXECUTABLE_TESTS and RSOLV_CLAUDE_MAX_TURNS, or executable_tests and\nclaude_max_turns in \
                 .github/rsolv.yml.",
            );
        let matches = command.get_matches_mut();
        let given = ["executable-tests", "claude-max-turns"].map(|name| matches.get_one::<String>(name));
        let application = Application::read(
            given.map(|given| given.map(String::as_str)),
            |name| std::env::var(name).ok(),
            Path::new("."),
        );
        Self {
            listen: *matches.get_one("listen").expect("it has a default"),
            length: matches.get_one("for").copied(),
            application: application
                .unwrap_or_else(|wrong| command.error(clap::error::ErrorKind::InvalidValue, wrong).exit()),
        }
    }
}
