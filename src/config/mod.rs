//! Settings: flag > environment > file > default, checked as a whole before anything starts.
//!
//! One table, [`KEYS`], makes the flags, the environment variables, the help and the table in `doc/settings.md`.

pub mod duration;
mod key_reader;
mod keys;
mod layers;
mod listen_address;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use keys::{KEYS, Key};
pub use layers::{ConfigFileError, Layers, load};
pub use listen_address::ListenAddress;

use crate::postgres::{Target, Timeouts};
use key_reader::KeyReader;

/// Said of `--database.url postgres://USER:PASSWORD@HOST/DATABASE`.
const PASSWORD_IN_ARGUMENTS: &str = "--database.url holds a password, which every user of this machine can read in the list of \
                                     processes: put the URL into a file and name it with database.url_file";

/// What the program runs with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the events are.
    pub target: Target,
    /// When to read them.
    pub poll: Poll,
    /// How series come and how many there may be.
    pub series: Series,
    /// Where the ledger survives a restart.
    pub state_file: Option<PathBuf>,
    /// Where the definitions are; none: the shipped ones.
    pub queries_dir: Option<PathBuf>,
    /// What is served.
    pub web: Web,
    /// What is logged.
    pub log: Log,
    /// Every key as it was set, for people: key, value without secrets, origin (empty for a default).
    pub shown: Vec<(String, String, String)>,
    /// What works and should be done otherwise.
    pub warnings: Vec<String>,
}

/// `[poll]`
#[derive(Clone, Debug)]
pub struct Poll {
    /// From the start of one poll to the start of the next.
    pub interval: Duration,
    /// Data older than this is withdrawn.
    pub stale_after: Duration,
    /// How long an id that was never seen is looked for.
    pub gap_watch: Duration,
}

/// `[series]`
#[derive(Clone, Debug)]
pub struct Series {
    /// The largest number of label sets per source.
    pub limit: usize,
    /// How long a new series stays 0 after it was first scraped.
    pub birth_hold: Duration,
    /// True if series carry exemplars.
    pub exemplars: bool,
}

/// `[web]`
#[derive(Clone, Debug)]
pub struct Web {
    /// Where to listen.
    pub listen_addresses: Vec<ListenAddress>,
    /// True to take the sockets of the service manager instead.
    pub systemd_socket: bool,
    /// The path of the metrics.
    pub telemetry_path: String,
    /// TLS and users.
    pub config_file: Option<PathBuf>,
    /// True if OpenMetrics carries `_created`.
    pub openmetrics_created: bool,
    /// True if the status page shows SQL, errors and settings to clients that do not log in.
    pub show_details: bool,
}

/// `[log]`
#[derive(Clone, Copy, Debug)]
pub struct Log {
    /// The most verbose level shown.
    pub level: tracing::level_filters::LevelFilter,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value` pairs.
    Logfmt,
    /// One JSON object a line.
    Json,
}

/// A setting that cannot be used, with where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The key, such as `poll.interval`.
    pub key: String,
    /// The flag, variable or file that set it.
    pub origin: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin.as_str() {
            "" => write!(f, "{}: {}", self.key, self.message),
            origin => write!(f, "{} ({origin}): {}", self.key, self.message),
        }
    }
}

impl Settings {
    /// Checks every key.
    ///
    /// # Errors
    /// Fails with all that is wrong.
    pub fn check(layers: &Layers) -> Result<Self, Vec<Invalid>> {
        let mut reader = KeyReader { layers, invalid: layers.unknown() };
        let timeouts = Timeouts {
            connect: reader.duration("database.connect_timeout"),
            statement: reader.duration("database.statement_timeout"),
            lock: reader.duration("database.lock_timeout"),
        };
        let max_lifetime = reader.duration("database.max_lifetime");
        let target = reader.target(timeouts, max_lifetime);
        let poll = Poll {
            interval: reader.duration("poll.interval"),
            stale_after: reader.duration("poll.stale_after"),
            gap_watch: reader.duration("poll.gap_watch"),
        };
        if poll.interval < Duration::MAX && poll.stale_after < poll.interval {
            reader.wrong("poll.stale_after", "is shorter than poll.interval: data would be withdrawn between polls");
        }
        let series = Series {
            limit: reader.parse("series.limit", "a whole number of at least 1", |t| t.parse().ok().filter(|n| *n > 0)),
            birth_hold: reader.duration_or_zero("series.birth_hold"),
            exemplars: reader.parse("series.exemplars", "true or false", |t| t.parse().ok()),
        };
        let web = reader.web();
        let log = Log {
            level: reader.parse("log.level", "off, error, warn, info, debug or trace", |t| t.parse().ok()),
            format: reader.parse("log.format", "logfmt or json", |t| match t {
                "logfmt" => Some(LogFormat::Logfmt),
                "json" => Some(LogFormat::Json),
                _ => None,
            }),
        };
        let (state_file, queries_dir) = (reader.path("state.file"), reader.path("queries.dir"));
        match target {
            Some(target) if reader.invalid.is_empty() => {
                // A command can have a secret among its words.
                let secret = [("database.url", target.to_string()), ("database.password_command", "…".to_owned())];
                let shown = layers.shown(&BTreeMap::from(secret));
                let is_argument = layers.origin("database.url").starts_with("--");
                let warnings = (is_argument && target.has_password()).then(|| PASSWORD_IN_ARGUMENTS.to_owned());
                let warnings = warnings.into_iter().collect();
                Ok(Self { target, poll, series, state_file, queries_dir, web, log, shown, warnings })
            }
            _ => Err(reader.invalid),
        }
    }
}

impl Web {
    /// Checks the keys of `[web]` alone, for who needs no database.
    ///
    /// # Errors
    /// Fails with all that is wrong.
    pub fn check(layers: &Layers) -> Result<Self, Vec<Invalid>> {
        let mut reader = KeyReader { layers, invalid: Vec::new() };
        let web = reader.web();
        if reader.invalid.is_empty() { Ok(web) } else { Err(reader.invalid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(env: &[(&str, &str)], flags: &[(&str, &str)], file: &str) -> Result<Settings, String> {
        let own = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<BTreeMap<_, _>>()
        };
        let layers = Layers::new((!file.is_empty()).then_some(("x.toml", file)), own(env), own(flags)).unwrap();
        Settings::check(&layers).map_err(|invalid| invalid.iter().map(|i| format!("{i}\n")).collect())
    }

    const URL: (&str, &str) = ("DATABASE_URL", "postgres://u:s3cret@h/db");

    #[test]
    fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
        let interval =
            |env: &[_], flags: &[_], file| check(&[&[URL], env].concat(), flags, file).unwrap().poll.interval.as_secs();
        let (env, flag, file) =
            (("RSOLV_EXPORTER_POLL__INTERVAL", "3s"), ("poll.interval", "2s"), "[poll]\ninterval = \"4s\"");
        assert_eq!(interval(&[], &[], ""), 15);
        assert_eq!(interval(&[], &[], file), 4);
        assert_eq!(interval(&[env], &[], file), 3);
        assert_eq!(interval(&[env], &[flag], file), 2);
    }

    #[test]
    fn the_variables_that_kubernetes_makes_for_a_service_are_not_settings() {
        let service =
            [("RSOLV_EXPORTER_PORT", "tcp://10.0.0.1:10060"), ("RSOLV_EXPORTER_PORT_10060_TCP_ADDR", "10.0.0.1")];
        assert!(check(&[&[URL], &service[..]].concat(), &[], "").is_ok());
    }

    #[test]
    fn a_variable_without_its_second_underscore_is_refused_with_what_was_meant() {
        let wrong = check(&[URL, ("RSOLV_EXPORTER_STATE_FILE", "/s")], &[], "").unwrap_err();
        assert_eq!(wrong, "RSOLV_EXPORTER_STATE_FILE: is no setting; did you mean RSOLV_EXPORTER_STATE__FILE?\n");
        let wrong = check(&[URL, ("RSOLV_EXPORTER_POLL__INTERVALL", "1s")], &[], "[web]\nlisten_adress = \":1\"");
        let wrong = wrong.unwrap_err();
        assert!(wrong.contains("did you mean RSOLV_EXPORTER_POLL__INTERVAL?"), "{wrong}");
        assert!(
            wrong.contains("web.listen_adress (x.toml): is no setting; did you mean web.listen_address?"),
            "{wrong}"
        );
    }

    #[test]
    fn addresses_are_a_list_everywhere() {
        let listed = |env: &[_], file| {
            let settings = check(&[&[URL], env].concat(), &[], file).unwrap();
            settings.web.listen_addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(listed(&[], ""), [":10060"]);
        assert_eq!(listed(&[], "[web]\nlisten_address = [\":1\", \"localhost:2\"]"), [":1", "localhost:2"]);
        assert_eq!(listed(&[("RSOLV_EXPORTER_WEB__LISTEN_ADDRESS", ":1, [::1]:2")], ""), [":1", "[::1]:2"]);
    }

    #[test]
    fn everything_wrong_is_said_at_once_without_the_password() {
        let file =
            "[poll]\ninterval = \"soon\"\ncolour = 1\n[planet]\nname = \"x\"\n[web]\nopenmetrics_created = \"maybe\"";
        let env = [
            ("RSOLV_EXPORTER_SERIES__LIMIT", "0"),
            ("RSOLV_EXPORTER_DATABASE__URL", "pg://u:s3cret@h"),
            ("RSOLV_EXPORTER_LOG__LEVL", "x"),
        ];
        let wrong =
            check(&env, &[("web.listen_address", "10060"), ("web.telemetry_path", "metrics")], file).unwrap_err();
        assert!(!wrong.contains("s3cret"));
        insta::assert_snapshot!(wrong);
    }

    #[test]
    fn a_database_is_required_once() {
        insta::assert_snapshot!(check(&[], &[], "").unwrap_err());
        assert!(check(&[URL], &[("database.url_file", "/nowhere")], "").unwrap_err().contains("cannot read /nowhere"));
    }

    #[test]
    fn libpqs_variables_stand_in_for_a_url_and_are_below_our_own_settings() {
        let shown = |env: &[_], flags: &[_]| check(env, flags, "").map(|settings| settings.target.to_string());
        let env = [("PGHOST", "a"), ("PGUSER", "me"), ("PGDATABASE", "mine"), ("PGPASSWORD", "s3cret")];
        assert_eq!(shown(&env, &[]).as_deref(), Ok("postgres://me@a:5432/mine"));
        assert_eq!(shown(&[&env, &[URL][..]].concat(), &[]).as_deref(), Ok("postgres://u@h:5432/db"));
        assert!(shown(&env[1..2], &[]).unwrap_err().contains("database.url: is required"));
        let wrong = shown(&[&env[..], &[("PGSSLMODE", "s3cret")]].concat(), &[]).unwrap_err();
        assert!(wrong.starts_with("database.url: PGSSLMODE: sslmode must be") && !wrong.contains("s3cret"), "{wrong}");
    }

    #[test]
    fn the_password_has_one_origin_and_its_command_is_not_shown() {
        let command = ("database.password_command", "vault s3cret");
        let shown = check(&[URL], &[command], "").unwrap().shown;
        assert!(!format!("{shown:?}").contains("s3cret"));
        let wrong = check(&[URL], &[command, ("database.password_file", "/nowhere")], "").unwrap_err();
        assert_eq!(
            wrong,
            "database.password_command (--database.password-command): database.password_file is set as well: set one of the two\n"
        );
    }

    #[test]
    fn a_password_in_arguments_is_warned_about() {
        let url = |url| ("database.url", url);
        let warnings = |env: &[_], flags: &[_]| check(env, flags, "").unwrap().warnings;
        for secret in ["postgres://u:s3cret@h/db", "host=h user=u password=s3cret", "postgres://u@h/db?password=s3cret"]
        {
            let said = warnings(&[], &[url(secret)]).concat();
            assert!(said.contains("database.url_file") && !said.contains("s3cret"), "{said}");
        }
        assert!(warnings(&[], &[url("postgres://u@h/db")]).is_empty() && warnings(&[URL], &[]).is_empty());
    }

    #[test]
    fn debug_shows_no_password() {
        let settings = check(&[URL], &[], "").unwrap();
        assert!(!format!("{settings:?}").contains("s3cret"));
    }
}
