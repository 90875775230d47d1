//! What the comparison can be told.

use std::time::Duration;

use clap::{Arg, ArgAction, Command, value_parser};

pub struct Options {
    /// Finished validations, one comparison each; half as many mitigations.
    pub rows: Vec<u64>,
    /// Repositories, one comparison each of every size.
    pub repositories: Vec<u64>,
    /// How often at most a comparison is repeated.
    pub pairs: usize,
    /// How long rows are written at 10,000 a second.
    pub flood: Duration,
    /// When not 0, only the memory over so many polls is measured.
    pub polls: u64,
    /// Only the bounds of work are measured.
    pub only_bounded: bool,
    /// When to give up.
    pub limit: Duration,
}

impl Options {
    /// True if no peer is measured.
    pub fn is_alone(&self) -> bool {
        self.polls > 0 || self.only_bounded
    }

    /// Reads the command line; ends the process at wrong usage, and at `--help`.
    pub fn from_command_line() -> Self {
        let number = |name: &'static str, default: &'static str, help: &'static str| {
            Arg::new(name).long(name).value_name("N").value_parser(value_parser!(u64)).default_value(default).help(help)
        };
        let matches = Command::new("bench")
            .about("Measures the exporter beside its peers on a throwaway PostgreSQL server")
            .max_term_width(80)
            .arg(
                number("rows", "100000,1000000,5000000", "Finished validations (several, separated by commas)")
                    .value_delimiter(','),
            )
            .arg(number("repositories", "200,2000", "Repositories (several as well)").value_delimiter(','))
            .arg(number("pairs", "3", "How often a slow comparison is repeated, as far as time allows"))
            .arg(number("flood", "75", "Seconds of writing 10,000 rows a second; 0 leaves it out"))
            .arg(number("polls", "0", "Measure nothing but memory, over so many polls"))
            .arg(
                Arg::new("only-bounded")
                    .long("only-bounded")
                    .action(ArgAction::SetTrue)
                    .help("Measure nothing but partitions, open rows, gaps and long labels"),
            )
            .arg(number("minutes", "60", "When to give up"))
            .get_matches();
        let one = |name: &str| *matches.get_one::<u64>(name).expect("it has a default");
        let several = |name: &str| {
            let mut all: Vec<u64> = matches.get_many(name).expect("it has a default").copied().collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        Self {
            rows: several("rows"),
            repositories: several("repositories"),
            pairs: one("pairs").max(1) as usize,
            flood: Duration::from_secs(one("flood")),
            polls: one("polls"),
            only_bounded: matches.get_flag("only-bounded"),
            limit: Duration::from_secs(60 * one("minutes")),
        }
    }
}
