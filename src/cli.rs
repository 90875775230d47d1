//! The command line: flags made from the table of settings, and the commands.

mod commands;

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::{Invalid, KEYS, Layers, Settings, Web, load};
use crate::{backfill, buckets, rows};

/// What the user wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Poll and serve until told to stop.
    Serve,
    /// Check everything against the real database; as JSON or for people.
    Check {
        /// As JSON.
        json: bool,
    },
    /// One poll, exposition on standard output.
    Once,
    /// Print the statements of a poll, or the one that gives a number.
    Sql(Option<String>),
    /// List the executions behind a series.
    Rows(rows::Options),
    /// Suggest the bounds of a histogram.
    Buckets(buckets::Options),
    /// Write the history with timestamps.
    Backfill(backfill::Options),
    /// Write a first definition for this table.
    Init(String),
    /// Ask the running exporter whether it works.
    Healthcheck,
}

/// The command line.
pub fn command() -> Command {
    let keys = KEYS.iter().map(|key| {
        let mut help = key.help.to_owned();
        if !key.default.is_empty() {
            help.push_str(&format!(" [default: {}]", key.default));
        }
        let arg = Arg::new(key.name)
            .long(key.flag())
            .help(help)
            .global(true)
            .value_name(value_name(key.name))
            .help_heading("Settings");
        if key.default == "false" {
            arg.num_args(0..=1).default_missing_value("true").require_equals(true)
        } else {
            arg
        }
    });
    Command::new("rsolv-exporter")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Prometheus exporter that counts rows of PostgreSQL event tables exactly once")
        .after_help(
            "Every setting is a flag, an environment variable (RSOLV_EXPORTER_POLL__INTERVAL for\n\
             --poll.interval) or a key of the file (interval under [poll]); in this order the first counts.\n\n\
             Example:\n  rsolv-exporter --database.url postgres://exporter@localhost:5432/rsolv",
        )
        .arg(
            Arg::new("config.file")
                .long("config.file")
                .value_name("FILE")
                .help("Settings in TOML")
                .global(true)
                .help_heading("Settings"),
        )
        .args(keys)
        .subcommands(commands::all())
        .arg(Arg::new("help").short('h').long("help").action(ArgAction::HelpLong).help("Print help").global(true))
        .disable_help_flag(true)
}

fn value_name(key: &str) -> &'static str {
    match key.rsplit(['.', '_']).next() {
        Some("file") => "FILE",
        Some("dir") => "DIRECTORY",
        Some("url") => "URL",
        Some("timeout" | "interval" | "after" | "watch" | "hold") => "DURATION",
        Some("limit") => "NUMBER",
        Some("address") => "ADDRESS",
        Some("path") => "PATH",
        Some("created" | "details") => "BOOLEAN",
        _ => "VALUE",
    }
}

/// The task of a parsed command line.
pub fn task(matches: &ArgMatches) -> Task {
    match matches.subcommand() {
        Some((name, matches)) => commands::task(name, matches),
        None => Task::Serve,
    }
}

/// The settings of a parsed command line, or all that is wrong with them, a line each.
pub fn settings(matches: &ArgMatches, environment: BTreeMap<String, String>) -> Result<Settings, Vec<String>> {
    Settings::check(&layers(matches, environment)?).map_err(lines)
}

/// Those of `[web]` alone, whatever the others are.
pub fn web(matches: &ArgMatches, environment: BTreeMap<String, String>) -> Result<Web, Vec<String>> {
    Web::check(&layers(matches, environment)?).map_err(lines)
}

fn lines(invalid: Vec<Invalid>) -> Vec<String> {
    invalid.iter().map(ToString::to_string).collect()
}

fn layers(matches: &ArgMatches, environment: BTreeMap<String, String>) -> Result<Layers, Vec<String>> {
    let matches = matches.subcommand().map_or(matches, |(_, matches)| matches);
    let of = |name: &str| matches.get_one::<String>(name).cloned();
    let flags = KEYS.iter().filter_map(|key| Some((key.name.to_owned(), of(key.name)?))).collect();
    load(of("config.file").as_deref(), environment, flags).map_err(|e| vec![e])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> (Task, Result<Settings, Vec<String>>) {
        let matches = command().try_get_matches_from([&["rsolv-exporter"], args].concat()).unwrap();
        (task(&matches), settings(&matches, BTreeMap::new()))
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn flags_count_before_and_after_the_command() {
        for args in [["--database.url", "postgres://u@h/d", "once"], ["once", "--database.url", "postgres://u@h/d"]] {
            let (task, settings) = parse(&args);
            assert_eq!((task, settings.is_ok()), (Task::Once, true));
        }
    }

    #[test]
    fn without_a_command_it_serves() {
        let (task, settings) =
            parse(&["--database.url=postgres://u@h/d", "--web.openmetrics-created", "--web.listen-address=:0"]);
        assert_eq!(task, Task::Serve);
        assert!(settings.unwrap().web.openmetrics_created);
    }

    #[test]
    fn help_lists_every_setting() {
        let help = command().render_long_help().to_string();
        assert!(KEYS.iter().all(|key| help.contains(&format!("--{}", key.flag()))));
    }
}
