//! The command line: flags made from the table of settings, and the commands.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::commands::{self, Invocation, Subcommand};
use crate::config::{ConfigFileError, KEYS, Layers, load};
use crate::telemetry::build_info;

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
    let commands = commands::ALL.iter().map(|subcommand| {
        // A command hides what does not matter to it, and takes it all the same.
        let matters = |key: &Arg| subcommand.settings.iter().any(|prefix| key.get_id().as_str().starts_with(prefix));
        let hidden = keys.iter().filter(|key| !matters(key)).map(|key| key.clone().hide(true));
        (subcommand.define)(Command::new(subcommand.name)).args(hidden)
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

/// The command of a command line that is [`joined`], and what it is started with.
///
/// # Errors
/// Fails if the program does not take this command line, or if it asks for help.
pub fn parse(
    arguments: &[OsString],
    environment: BTreeMap<String, String>,
) -> Result<(&'static Subcommand, Invocation), clap::Error> {
    let program = command();
    let matches = program.clone().try_get_matches_from(arguments)?;
    let [serve, ..] = &commands::ALL;
    let (subcommand, matches) = match matches.subcommand() {
        Some((name, own)) => (commands::ALL.iter().find(|c| c.name == name).unwrap_or(serve), own.clone()),
        None => (serve, matches),
    };
    let layers = layers(&matches, environment);
    Ok((subcommand, Invocation::new(matches, program, layers)))
}

fn layers(matches: &ArgMatches, environment: BTreeMap<String, String>) -> Result<Layers, ConfigFileError> {
    let of = |name: &str| {
        let values: Vec<&str> = matches.get_many::<String>(name)?.map(String::as_str).collect();
        Some(values.join(","))
    };
    let flags = KEYS.iter().filter_map(|key| Some((key.name.to_owned(), of(key.name)?))).collect();
    load(of("config.file").as_deref(), environment, flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::CommandError;
    use crate::config::Settings;
    use crate::query::resolved::{REJECTED, ResolvedSelector};
    use crate::source::Source;

    /// The name of the command, and the settings with which it is started.
    fn started(args: &[&str]) -> (&'static str, Result<Settings, CommandError>) {
        let args = joined(["rsolv-exporter"].iter().chain(args).map(OsString::from));
        let (subcommand, invocation) = parse(&args, BTreeMap::new()).unwrap();
        (subcommand.name, invocation.settings())
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn flags_count_before_and_after_the_command() {
        for args in [["--database.url", "postgres://u@h/d", "once"], ["once", "--database.url", "postgres://u@h/d"]] {
            let (name, settings) = started(&args);
            assert_eq!((name, settings.is_ok()), ("once", true));
        }
    }

    #[test]
    fn without_a_command_it_serves() {
        let (name, settings) =
            started(&["--database.url=postgres://u@h/d", "--web.openmetrics-created", "--web.listen-address=:0"]);
        assert_eq!(name, "serve");
        assert!(settings.unwrap().web.openmetrics_created);
    }

    #[test]
    fn a_boolean_takes_a_value_after_a_space() {
        let shows = |args: &[&str]| {
            let (name, settings) = started(&[&["--database.url=postgres://u@h/d"], args].concat());
            (name, settings.unwrap().web.show_details)
        };
        assert_eq!(shows(&["--web.show-details", "true"]), ("serve", true));
        assert_eq!(shows(&["--web.show-details", "false", "once"]), ("once", false));
        assert_eq!(shows(&["--web.show-details", "once"]), ("once", true));
    }

    #[test]
    fn an_address_can_be_repeated() {
        let (_, settings) = started(&[
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
        let (name, settings) = started(&["rows", "--web.listen-address=:1", "--database.url=postgres://u@h/d"]);
        assert!(name == "rows" && settings.is_ok());
    }

    /// The words of a command in a help text, up to where the shell takes over.
    fn words(line: &str) -> Vec<OsString> {
        let mut words = Vec::new();
        for (i, part) in line.split('\'').enumerate() {
            if i % 2 == 1 {
                words.push(part.to_owned());
            } else {
                words.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        words.into_iter().take_while(|word| !["|", ">"].contains(&word.as_str())).map(OsString::from).collect()
    }

    #[test]
    fn every_example_in_the_help_is_valid_and_fits_a_terminal() {
        let sources = Source::shipped().unwrap();
        let mut examples = 0;
        for command in command().get_subcommands() {
            let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.lines().all(|line| line.chars().count() <= 82), "{}", command.get_name());
            let joined = help.replace("\\\n", "");
            for line in joined.lines().map(str::trim).filter(|line| line.starts_with("rsolv-exporter ")) {
                let (_, invocation) = parse(&words(line), BTreeMap::new()).unwrap_or_else(|e| panic!("{line}: {e}"));
                let selector = invocation.arguments.try_get_one::<String>("selector").ok().flatten();
                let selector = selector.filter(|selector| !selector.starts_with(REJECTED));
                if let Some(selector) = selector {
                    ResolvedSelector::parse(selector, &sources).unwrap_or_else(|e| panic!("{line}: {e}"));
                }
                examples += 1;
            }
        }
        assert!(examples >= 12, "{examples}");
    }
}
