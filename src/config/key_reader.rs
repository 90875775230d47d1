//! Reads each key as the type that it has, and gathers what is wrong.

use std::path::PathBuf;
use std::time::Duration;

use super::{Invalid, Layers, ListenAddress, LogFormat, Web};
use crate::postgres::{Options, Password, Target, Timeouts, Url};

/// Reads keys and gathers what is wrong with them.
pub struct KeyReader<'a> {
    /// What is set.
    pub layers: &'a Layers,
    /// What is wrong.
    pub invalid: Vec<Invalid>,
}

impl KeyReader<'_> {
    /// Notes what is wrong with a key.
    pub fn wrong(&mut self, key: &str, message: impl Into<String>) {
        self.invalid.push(Invalid { key: key.to_owned(), origin: self.layers.origin(key), message: message.into() });
    }

    /// A value, or the type's default with a complaint noted: nothing is built from it then.
    pub fn parse<T: Reset>(&mut self, key: &str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> T {
        let text = self.layers.get(key).unwrap_or_default();
        parse(&text).unwrap_or_else(|| {
            self.wrong(key, format!("must be {expected}, and is \"{text}\""));
            T::reset()
        })
    }

    /// A duration above 0.
    pub fn duration(&mut self, key: &str) -> Duration {
        self.parse(key, "a duration above 0 such as 15s or 5m", |t| {
            humantime::parse_duration(t).ok().filter(|d| !d.is_zero())
        })
    }

    /// A duration.
    pub fn duration_or_zero(&mut self, key: &str) -> Duration {
        self.parse(key, "a duration such as 90s or 0s", |t| humantime::parse_duration(t).ok())
    }

    /// A path, if one is set.
    pub fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.layers.get(key).filter(|t| !t.is_empty()).map(PathBuf::from)
    }

    /// `[web]`.
    pub fn web(&mut self) -> Web {
        Web {
            listen_addresses: self.parse(
                "web.listen_address",
                "HOST:PORT or :PORT, such as localhost:10060, [::1]:10060 or :10060, several with commas between",
                ListenAddress::parse_list,
            ),
            systemd_socket: self.parse("web.systemd_socket", "true or false", |t| t.parse().ok()),
            telemetry_path: self.parse("web.telemetry_path", "a path of its own such as /metrics", |t| {
                let own = t.starts_with('/') && t != "/" && !t.starts_with("/-/") && !t.contains(['?', '#', ' ']);
                own.then(|| t.to_owned())
            }),
            config_file: self.path("web.config_file"),
            openmetrics_created: self.parse("web.openmetrics_created", "true or false", |t| t.parse().ok()),
            show_details: self.parse("web.show_details", "true or false", |t| t.parse().ok()),
        }
    }

    /// Needs one of the settings that say where the database is, or libpq's variables; never shows their values.
    pub fn target(&mut self, timeouts: Timeouts, max_lifetime: Duration) -> Option<Target> {
        let environment = self.layers.environment();
        let url = match (self.layers.get("database.url"), self.path("database.url_file")) {
            (Some(_), Some(_)) => {
                self.wrong("database.url_file", "database.url is set as well: set one of the two");
                return None;
            }
            (Some(url), None) => Url::Text(url),
            (None, Some(file)) => Url::File(file),
            (None, None) if environment.names_a_database() => Url::Text("postgres://".to_owned()),
            (None, None) => {
                let how = "is required: set --database.url, RSOLV_EXPORTER_DATABASE__URL, DATABASE_URL, \
                           or database.url_file, to postgres://USER@HOST:PORT/DATABASE";
                self.wrong("database.url", how);
                return None;
            }
        };
        let password = match (self.path("database.password_file"), self.layers.get("database.password_command")) {
            (Some(_), Some(_)) => {
                self.wrong("database.password_command", "database.password_file is set as well: set one of the two");
                return None;
            }
            (Some(file), None) => Password::File(file),
            (None, Some(command)) => Password::Command(command),
            (None, None) => Password::Address,
        };
        let url_may_set_timeout = self.layers.origin("database.connect_timeout").is_empty();
        let options = Options { url, password, environment, timeouts, url_may_set_timeout, max_lifetime };
        Target::new(options).map_err(|(key, message)| self.wrong(key, message)).ok()
    }
}

/// Something to go on with after a complaint.
pub trait Reset {
    /// It.
    fn reset() -> Self;
}

macro_rules! reset {
    ($($type:ty => $value:expr),* $(,)?) => {
        $(impl Reset for $type {
            fn reset() -> Self {
                $value
            }
        })*
    };
}

reset! {
    Duration => Duration::MAX,
    usize => 1,
    bool => false,
    String => String::new(),
    Vec<ListenAddress> => Vec::new(),
    tracing::level_filters::LevelFilter => tracing::level_filters::LevelFilter::INFO,
    LogFormat => LogFormat::Logfmt,
}
