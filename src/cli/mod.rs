//! The command line: flags made from the table of settings, and the commands.

mod commands;
mod documents;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};

pub use documents::{completion, man};

use crate::commands::{backfill, buckets, rows};
use crate::config::{Invalid, KEYS, Layers, Settings, Web, load};
use crate::telemetry::build_info;

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
    /// Print the completion script of a shell: bash, zsh or fish.
    Completion(String),
    /// Write the manual's pages into a directory.
    Man(String),
    /// Print the settings in force and where each comes from.
    Config,
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
            .hide_short_help(true)
            .help_heading("Settings");
        match key {
            key if key.default == "false" => arg.num_args(0..=1).default_missing_value("true").require_equals(true),
            key if key.is_list() => arg.action(ArgAction::Append),
            _ => arg,
        }
    });
    let keys: Vec<Arg> = keys.collect();
    let commands = commands::all().into_iter().map(|command| {
        // A command hides what does not matter to it, and takes it all the same.
        let name = command.get_name().to_owned();
        let hidden = keys.iter().filter(|key| !commands::matters(&name, key.get_id().as_str()));
        command.args(hidden.map(|key| key.clone().hide(true)))
    });
    let commands: Vec<Command> = commands.collect();
    Command::new("rsolv-exporter")
        .version(build_info::LONG)
        .about("Prometheus exporter that counts rows of PostgreSQL event tables exactly once")
        .after_help("rsolv-exporter COMMAND --help shows the settings and examples.")
        .after_long_help(
            "Every setting is a flag, an environment variable (RSOLV_EXPORTER_POLL__INTERVAL for\n\
             --poll.interval) or a key of the file (interval under [poll]); in this order the first\ncounts.\n\n\
             Examples:\n  rsolv-exporter --database.url postgres://rsolv_exporter@localhost:5432/rsolv \\\n    \
             --state.file /var/lib/rsolv-exporter/state\n  rsolv-exporter --config.file /etc/rsolv-exporter/rsolv-exporter.toml check",
        )
        .arg(
            Arg::new("config.file")
                .long("config.file")
                .value_name("FILE")
                .help("Settings in TOML")
                .hide_short_help(true)
                .global(true)
                .help_heading("Settings"),
        )
        .arg(
            Arg::new("unit")
                .long("unit")
                .value_name("NAME")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("rsolv-exporter")
                .help("Run the command as this unit of systemd's would: its user, settings, credentials, state")
                .global(true)
                .help_heading("Settings")
                .hide_short_help(true),
        )
        .args(keys)
        .subcommands(commands)
        .arg(
            Arg::new("help")
                .short('h')
                .long("help")
                .action(ArgAction::Help)
                .help("Print help: -h on one screen, --help with settings and examples")
                .global(true),
        )
        .disable_help_flag(true)
        .disable_help_subcommand(true)
}

fn value_name(key: &str) -> &'static str {
    match key.rsplit(['.', '_']).next() {
        Some("file") => "FILE",
        Some("dir") => "DIRECTORY",
        Some("url") => "URL",
        Some("timeout" | "interval" | "after" | "watch" | "hold" | "lifetime") => "DURATION",
        Some("limit") => "NUMBER",
        Some("address") => "ADDRESS",
        Some("command") => "COMMAND",
        Some("path") => "PATH",
        Some("created" | "details" | "exemplars") => "BOOLEAN",
        _ => "VALUE",
    }
}

/// The arguments as the command line takes them: `--web.show-details true` as `--web.show-details=true`. Left as it is,
/// `true` would be taken for a command; with a value always taken, so would a command for the value.
pub fn joined(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let flags: Vec<String> = KEYS.iter().filter(|k| k.default == "false").map(|k| format!("--{}", k.flag())).collect();
    let mut joined: Vec<OsString> = Vec::new();
    for argument in arguments {
        match joined.last_mut() {
            Some(flag)
                if ["true", "false"].iter().any(|b| argument == *b) && flags.iter().any(|f| flag == f.as_str()) =>
            {
                flag.push("=");
                flag.push(argument);
            }
            _ => joined.push(argument),
        }
    }
    joined
}

/// The task of a parsed command line.
pub fn task(matches: &ArgMatches) -> Task {
    match matches.subcommand() {
        Some((name, matches)) => commands::task(name, matches),
        None => Task::Serve,
    }
}

/// The unit of systemd's that the command is to be run like.
pub fn unit(matches: &ArgMatches) -> Option<&str> {
    let matches = matches.subcommand().map_or(matches, |(_, matches)| matches);
    matches.get_one::<String>("unit").map(String::as_str)
}

/// The settings of a parsed command line, or all that is wrong with them, a line each.
pub fn settings(matches: &ArgMatches, environment: BTreeMap<String, String>) -> Result<Settings, Vec<String>> {
    Settings::check(&layers(matches, environment)?).map_err(lines)
}

/// Those of `[web]` alone, whatever the others are.
pub fn web(matches: &ArgMatches, environment: BTreeMap<String, String>) -> Result<Web, Vec<String>> {
    Web::check(&layers(matches, environment)?).map_err(lines)
}

/// The directory of definitions alone, whatever the other settings are.
pub fn queries_dir(
    matches: &ArgMatches,
    environment: BTreeMap<String, String>,
) -> Result<Option<PathBuf>, Vec<String>> {
    Ok(layers(matches, environment)?.get("queries.dir").filter(|dir| !dir.is_empty()).map(PathBuf::from))
}

fn lines(invalid: Vec<Invalid>) -> Vec<String> {
    invalid.iter().map(ToString::to_string).collect()
}

fn layers(matches: &ArgMatches, environment: BTreeMap<String, String>) -> Result<Layers, Vec<String>> {
    let matches = matches.subcommand().map_or(matches, |(_, matches)| matches);
    let of = |name: &str| {
        let values: Vec<&str> = matches.get_many::<String>(name)?.map(String::as_str).collect();
        Some(values.join(","))
    };
    let flags = KEYS.iter().filter_map(|key| Some((key.name.to_owned(), of(key.name)?))).collect();
    load(of("config.file").as_deref(), environment, flags).map_err(|e| vec![e])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> (Task, Result<Settings, Vec<String>>) {
        let args = joined(["rsolv-exporter"].iter().chain(args).map(OsString::from));
        let matches = command().try_get_matches_from(args).unwrap();
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
    fn a_boolean_takes_a_value_after_a_space() {
        let shows = |args: &[&str]| {
            let (task, settings) = parse(&[&["--database.url=postgres://u@h/d"], args].concat());
            (task, settings.unwrap().web.show_details)
        };
        assert_eq!(shows(&["--web.show-details", "true"]), (Task::Serve, true));
        assert_eq!(shows(&["--web.show-details", "false", "once"]), (Task::Once, false));
        assert_eq!(shows(&["--web.show-details", "once"]), (Task::Once, true));
    }

    #[test]
    fn an_address_can_be_repeated() {
        let (_, settings) = parse(&[
            "--database.url=postgres://u@h/d",
            "--web.listen-address=localhost:1",
            "--web.listen-address",
            "[::1]:2",
        ]);
        let addresses = settings.unwrap().web.listen_addresses;
        assert_eq!(addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["localhost:1", "[::1]:2"]);
    }

    #[test]
    fn help_lists_every_setting() {
        let help = command().render_long_help().to_string();
        assert!(KEYS.iter().all(|key| help.contains(&format!("--{}", key.flag()))));
    }

    #[test]
    fn short_help_fits_a_screen_and_long_help_ends_with_examples() {
        let mut command = command().term_width(80);
        command.build();
        let mut all = vec![command.clone()];
        all.extend(command.get_subcommands().cloned());
        for mut command in all {
            let name = command.get_name().to_owned();
            let short = command.render_help().to_string();
            let wide = short.lines().chain(None).filter(|line| line.chars().count() > 80).count();
            assert!(short.lines().count() <= 24 && wide == 0, "{name}: {} lines\n{short}", short.lines().count());
            let long = command.render_long_help().to_string();
            let (_, examples) = long.rsplit_once("\nExample").unwrap_or_else(|| panic!("{name}: {long}"));
            assert!(examples.trim_end().lines().skip(1).all(|line| line.starts_with("  ")), "{name}: {examples}");
        }
    }

    #[test]
    fn the_help_of_a_command_has_the_settings_that_matter_to_it() {
        let mut command = command();
        command.build();
        let mut help = |name: &str| command.find_subcommand_mut(name).unwrap().render_long_help().to_string();
        let (rows, healthcheck) = (help("rows"), help("healthcheck"));
        assert!(
            rows.contains("--database.url ") && rows.contains("--state.file ") && !rows.contains("--web."),
            "{rows}"
        );
        assert!(healthcheck.contains("--web.listen-address ") && !healthcheck.contains("--database."), "{healthcheck}");
        assert!(KEYS.iter().all(|key| help("serve").contains(&format!("--{}", key.flag()))));
        // What is hidden is taken, as in a script that gives all commands the same flags.
        let (task, settings) = parse(&["rows", "--web.listen-address=:1", "--database.url=postgres://u@h/d"]);
        assert!(matches!(task, Task::Rows(_)) && settings.is_ok());
    }
}
