//! What the comparison can be told.

use clap::{Arg, Command, value_parser};

pub struct Options {
    /// Finished validations, one comparison each; half as many mitigations.
    pub rows: Vec<u64>,
    pub repositories: u64,
    /// How often the first read is measured.
    pub pairs: usize,
}

impl Options {
    /// Reads the command line; ends the process at wrong usage, and at `--help`.
    pub fn from_command_line() -> Self {
        let number = |name: &'static str, default: &'static str, help: &'static str| {
            Arg::new(name).long(name).value_name("N").value_parser(value_parser!(u64)).default_value(default).help(help)
        };
        let matches = Command::new("bench")
            .about("Measures the exporter beside its peers on a throwaway PostgreSQL server")
            .max_term_width(80)
            .arg(
                number("rows", "100000,1000000", "Finished validations (several, separated by commas)")
                    .value_delimiter(','),
            )
            .arg(number("repositories", "200", "Repositories"))
            .arg(number("pairs", "3", "How often the first read is measured"))
            .get_matches();
        let one = |name: &str| *matches.get_one::<u64>(name).expect("it has a default");
        Self {
            rows: matches.get_many("rows").expect("it has a default").copied().collect(),
            repositories: one("repositories"),
            pairs: one("pairs") as usize,
        }
    }
}
