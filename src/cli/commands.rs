//! The commands, their own arguments, and their help.

use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::Task;
use crate::commands::{backfill, buckets, rows};

const SELECTOR: &str = "\
A selector is what Prometheus takes: NAME{label=\"value\",…} with = != =~ !~.
Labels that are added there (job, instance, environment, …) are ignored, so that
a series can be pasted as it stands. Regular expressions are PostgreSQL's: they
differ from Prometheus' in rare things, such as \\b and \\pL, which are refused.

";

/// Every command.
pub fn all() -> Vec<Command> {
    let selector = |required| Arg::new("selector").value_name("SELECTOR").required(required);
    let since = || Arg::new("since").long("since").value_name("DURATION").value_parser(duration);
    let format = |all: &[&'static str]| {
        let parser = PossibleValuesParser::new(all.to_vec());
        Arg::new("format").long("format").value_name("FORMAT").value_parser(parser).default_value("table")
    };
    vec![
        Command::new("serve").about("Poll and serve metrics until told to stop (the default)").after_long_help(
            "\
Examples:
  rsolv-exporter serve --database.url postgres://rsolv_exporter@localhost/rsolv \\
    --state.file /var/lib/rsolv-exporter/state",
        ),
        Command::new("check")
            .about("Check settings, queries and privileges against the real database")
            .arg(format(&["table", "json"]).help("For people, or for programs"))
            .after_long_help(
                "\
It runs the statement of a poll on the newest 10000 rows, and shows how PostgreSQL
runs it, what is in the rows, and which values are rejected and why. Missing
privileges come with the GRANT that gives them. Exit status 1 says that numbers
would be wrong or absent.

Examples:
  rsolv-exporter check
  rsolv-exporter check --format json | jq .problems",
            ),
        Command::new("once").about("Poll once and print the metrics").after_long_help(
            "\
It counts from the tables, whatever the state file has.

Examples:
  rsolv-exporter once | grep executions_total
  rsolv-exporter once | promtool check metrics",
        ),
        Command::new("sql")
            .about("Print the SQL that a number comes from, to paste into psql")
            .arg(selector(false).help("A metric or series; without one: the statements of a poll, as they run"))
            .after_long_help(format!(
                "{SELECTOR}\
The number is in the last column of the last row; with several series their sum,
and a row for each before it. With state.file it says how much of the number
comes from rows that are gone.

Examples:
  rsolv-exporter sql
  rsolv-exporter sql rsolv_validation_test_generated_total | psql \"$DATABASE_URL\"
  rsolv-exporter sql 'rsolv_validation_executions_total{{status=\"failed\"}}'
  rsolv-exporter sql \\
    'rsolv_validation_duration_milliseconds_bucket{{le=\"300000\"}}'"
            )),
        Command::new("rows")
            .about("List the executions behind a series, newest first")
            .arg(selector(false).help("The series; without it: the metrics that there are, with their labels"))
            .arg(since().help("Only executions that finished within this time, such as 24h"))
            .arg(
                Arg::new("id")
                    .long("id")
                    .value_name("ID")
                    .allow_negative_numbers(true)
                    .conflicts_with("since")
                    .help("Only the row with this id (or key, columns with commas between them); without a selector: of every source, with all that is in it"),
            )
            .arg(
                Arg::new("limit")
                    .long("limit")
                    .value_name("NUMBER")
                    .default_value("50")
                    .value_parser(clap::value_parser!(u32).range(1..))
                    .help("At most so many"),
            )
            .arg(format(&["table", "csv", "json"]).help("How to write them"))
            .after_long_help(format!(
                "{SELECTOR}\
Of a histogram's own name, le is the bucket into which a row falls: le=\"+Inf\" are
the rows above the last bound. Of NAME_bucket, le=\"300000\" are the rows that this
series counts (up to 300000), le!=\"300000\" those that it does not.

The table is read backwards by id. A search ends when it has found enough, after
10000 rows in a row that are older than --since, or after
database.statement_timeout; notes on standard error say how far it came.

Examples:
  rsolv-exporter rows --since 24h \\
    'rsolv_validation_executions_total{{repo=\"org/app\",status=\"failed\"}}'
  the ones over 5 minutes:
  rsolv-exporter rows \\
    'rsolv_validation_duration_milliseconds_bucket{{le!=\"300000\"}}'
  between one and two minutes, as CSV:
  rsolv-exporter rows --format csv --limit 1000 \\
    'rsolv_validation_duration_milliseconds{{le=\"120000\"}}'
  one row as the exporter sees it, and whether it is counted:
  rsolv-exporter rows --id 4711
  the values that were rejected, and why:
  rsolv-exporter rows \\
    'rsolv_exporter_rejected_values_total{{column=\"trust_score\"}}'"
            )),
        Command::new("buckets")
            .about("Suggest the bounds of a histogram from the values that there are")
            .arg(selector(true).help("The histogram, if wanted with labels"))
            .arg(since().default_value("30d").help("Executions that finished within this time"))
            .after_long_help(
                "\
It prints p50, p90, p95 and p99 of the values, what histogram_quantile makes of
them with today's and with the suggested bounds, how many values are above the
last bound, and the TOML to paste. Values are rounded up to five significant
digits. The table is read backwards by id, as by the command rows.

Examples:
  rsolv-exporter buckets rsolv_validation_duration_milliseconds
  rsolv-exporter buckets --since 7d \\
    'rsolv_mitigation_trust_score_value{language=\"ruby\"}'",
            ),
        Command::new("backfill")
            .about("Write the history as OpenMetrics with timestamps, for promtool")
            .arg(
                Arg::new("from")
                    .long("from")
                    .value_name("TIME")
                    .required(true)
                    .help("The first sample: 2026-01-31, 2026-01-31T12:00:00Z, 30d (ago) or seconds since the epoch"),
            )
            .arg(Arg::new("to").long("to").value_name("TIME").default_value("now").help("The last sample"))
            .arg(
                Arg::new("step")
                    .long("step")
                    .value_name("DURATION")
                    .default_value("1m")
                    .value_parser(duration)
                    .help("From one sample to the next"),
            )
            .arg(
                Arg::new("output-dir")
                    .long("output-dir")
                    .value_name("DIRECTORY")
                    .help("Write a file for each day there, and go on there after an interruption"),
            )
            .arg(
                Arg::new("label")
                    .long("label")
                    .value_name("NAME=VALUE")
                    .action(ArgAction::Append)
                    .value_parser(pair)
                    .help(
                        "A label for every series; give job and instance as Prometheus does, so that live series go on",
                    ),
            )
            .after_long_help(
                "\
Every series begins one step before its first event, where it is 0, or at --from.
It has a sample at every step at which it changes, else one every four minutes.
Its last value is the live one, less what happened after --to; rows that are gone
count as before --from, as far as state.file knows them. Gauges of open rows have
no history and are left out. How much it will be is said first.

PostgreSQL reads each table once for every list of labels that metrics have, once
more for a gauge of the newest execution, and once more for every list with
state.file; it sorts what it reads, if need be on disk. Run it on a replica, with
a statement_timeout to match. The transaction lasts until all is written. This
side holds a few thousand rows and the total of each series, whatever the range.

promtool reads a file again for every block in it: with a file for each day and
blocks of a day that is seldom. The same command in the same directory goes on
after an interruption. Leave out the last three hours (--to 3h): Prometheus still
writes to the block in memory there. Blocks older than Prometheus' retention are
deleted as soon as it sees them.

Example:
  rsolv-exporter backfill --from 30d --to 3h --output-dir history \\
    --database.statement-timeout 30m \\
    --label job=rsolv-exporter --label instance=exporter:10060
  for day in history/*.om; do promtool tsdb create-blocks-from openmetrics \\
    --max-block-duration=24h $day /var/lib/prometheus/metrics2; done",
            ),
        Command::new("init")
            .about("Write a first definition for a table, from its columns and newest rows")
            .arg(Arg::new("table").value_name("TABLE").required(true).help("The table, if need be as SCHEMA.TABLE"))
            .after_long_help(
                "\
It writes TABLE.sql and TABLE.toml into queries.dir, else into the current
directory, and prints the GRANT for the role. It reads the catalog, and of the
newest 10000 rows what the role may see: which columns have few values, and how
numbers are distributed. Nothing that is there is overwritten.

Example:
  rsolv-exporter init jobs --queries.dir queries
  rsolv-exporter check --queries.dir queries",
            ),
        Command::new("healthcheck").about("Exit with 0 if the exporter at web.listen_address works").after_long_help(
            "\
For containers without an HTTP client. It needs no settings but those of the web.

Examples:
  rsolv-exporter healthcheck
  rsolv-exporter healthcheck --web.listen-address 127.0.0.1:10061",
        ),
        Command::new("config").about("Print the settings in force and where each comes from").after_long_help(
            "\
No password is shown, and the database is not asked.

Examples:
  rsolv-exporter config
  rsolv-exporter config --config.file /etc/rsolv-exporter/rsolv-exporter.toml",
        ),
        Command::new("completion")
            .about("Print what makes a shell complete commands and flags")
            .arg(
                Arg::new("shell")
                    .value_name("SHELL")
                    .required(true)
                    .value_parser(PossibleValuesParser::new(["bash", "zsh", "fish"]))
                    .help("The shell"),
            )
            .after_long_help(
                "\
The Debian package has installed it. Elsewhere, for one user:

Examples:
  rsolv-exporter completion bash > \\
    ~/.local/share/bash-completion/completions/rsolv-exporter
  rsolv-exporter completion fish > \\
    ~/.config/fish/completions/rsolv-exporter.fish
  with ~/.zfunc in $fpath:
  rsolv-exporter completion zsh > ~/.zfunc/_rsolv-exporter",
            ),
        // For packages, which are made from a built program.
        Command::new("man")
            .about("Write the manual's pages into a directory")
            .hide(true)
            .arg(Arg::new("directory").value_name("DIRECTORY").required(true))
            .after_long_help("Example:\n  rsolv-exporter man target/man"),
    ]
}

/// True if a command does something with the setting of this key.
pub fn matters(command: &str, key: &str) -> bool {
    let prefixes: &[&str] = match command {
        "serve" | "config" => &[""],
        "check" => &["database.", "state.", "queries.", "series.limit", "web.config_file", "log."],
        "once" => &["database.", "queries.", "series.limit", "log."],
        "sql" | "rows" | "backfill" => &["database.", "state.", "queries.", "series.limit", "log."],
        "buckets" => &["database.", "queries.", "log."],
        "healthcheck" => &["web.listen_address", "web.config_file"],
        _ => &[],
    };
    prefixes.iter().any(|prefix| key.starts_with(prefix))
}

/// The task of a command with its arguments.
pub fn task(name: &str, matches: &ArgMatches) -> Task {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    match name {
        "check" => Task::Check { json: text("format").is_some_and(|format| format == "json") },
        "once" => Task::Once,
        "sql" => Task::Sql(text("selector")),
        "rows" => Task::Rows(rows::Options {
            selector: text("selector"),
            id: text("id"),
            since: matches.get_one("since").copied(),
            limit: matches.get_one::<u32>("limit").map_or(usize::MAX, |&limit| limit as usize),
            format: text("format").and_then(|text| rows::Format::parse(&text)).unwrap_or(rows::Format::Table),
        }),
        "buckets" => Task::Buckets(buckets::Options {
            selector: text("selector").unwrap_or_default(),
            since: matches.get_one("since").copied().unwrap_or_default(),
        }),
        "backfill" => Task::Backfill(backfill::Options {
            from: text("from").unwrap_or_default(),
            to: text("to").unwrap_or_default(),
            step: matches.get_one("step").copied().unwrap_or_default(),
            labels: matches.get_many("label").into_iter().flatten().cloned().collect(),
            output_dir: text("output-dir").map(std::path::PathBuf::from),
        }),
        "init" => Task::Init(text("table").unwrap_or_default()),
        "healthcheck" => Task::Healthcheck,
        "completion" => Task::Completion(text("shell").unwrap_or_default()),
        "man" => Task::Man(text("directory").unwrap_or_default()),
        "config" => Task::Config,
        _ => Task::Serve,
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("{e}; such as 30m, 24h or 30d"))
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::resolved::{REJECTED, ResolvedSelector};
    use crate::source::Source;

    /// The words of a command in a help text, up to where the shell takes over.
    fn words(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        for (i, part) in line.split('\'').enumerate() {
            if i % 2 == 1 {
                words.push(part.to_owned());
            } else {
                words.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        words.into_iter().take_while(|word| !["|", ">"].contains(&word.as_str())).collect()
    }

    #[test]
    fn every_example_in_the_help_is_valid_and_fits_a_terminal() {
        let sources = Source::shipped().unwrap();
        let mut examples = 0;
        for command in all() {
            let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.lines().all(|line| line.chars().count() <= 82), "{}", command.get_name());
            let joined = help.replace("\\\n", "");
            for line in joined.lines().map(str::trim).filter(|line| line.starts_with("rsolv-exporter ")) {
                let matches = super::super::command().try_get_matches_from(words(line));
                let task = super::super::task(&matches.unwrap_or_else(|e| panic!("{line}: {e}")));
                let selector = match &task {
                    Task::Sql(selector) => selector.clone(),
                    Task::Rows(options) => options.selector.clone().filter(|s| !s.starts_with(REJECTED)),
                    Task::Buckets(options) => Some(options.selector.clone()),
                    _ => None,
                };
                if let Some(selector) = selector {
                    ResolvedSelector::parse(&selector, &sources).unwrap_or_else(|e| panic!("{line}: {e}"));
                }
                examples += 1;
            }
        }
        assert!(examples >= 12, "{examples}");
    }
}
