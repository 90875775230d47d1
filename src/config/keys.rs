//! The settings there are.

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// `section.key_name`, as in the file.
    pub name: &'static str,
    /// The default; empty for none.
    pub default: &'static str,
    /// What it does.
    pub help: &'static str,
}

impl Key {
    /// The long flag, without dashes. One exception matches every other exporter.
    pub fn flag(&self) -> String {
        if self.name == "web.config_file" { "web.config.file".to_owned() } else { self.name.replace('_', "-") }
    }

    /// True if the flag can be repeated, and the file can hold a list.
    pub fn is_list(&self) -> bool {
        self.name == "web.listen_address"
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.replace('.', "__").to_uppercase())
    }
}

/// What every environment variable of a setting starts with.
pub const PREFIX: &str = "RSOLV_EXPORTER_";

const fn key(name: &'static str, default: &'static str, help: &'static str) -> Key {
    Key { name, default, help }
}

/// Every setting, in the order in which it is shown.
pub const KEYS: [Key; 24] = [
    key("database.url", "", "Where the database is: postgres://USER@HOST:PORT/DATABASE. DATABASE_URL works as well"),
    key("database.url_file", "", "A file that holds the URL, instead of database.url"),
    key("database.password_file", "", "A file that holds the password, read at every connection"),
    key("database.password_command", "", "A shell command that writes the password, run at every connection"),
    key("database.connect_timeout", "5s", "How long one address may take to connect, and a poll's first answer"),
    key(
        "database.statement_timeout",
        "30s",
        "How long one statement may take in the server; while only new rows are read, 10s",
    ),
    key("database.lock_timeout", "2s", "How long a statement may wait for a lock"),
    key("database.max_lifetime", "30m", "How old a connection may grow before a new one is made, give or take 5%"),
    key("poll.interval", "15s", "Time from one poll to the next"),
    key("poll.stale_after", "5m", "Data older than this is withdrawn from the metrics"),
    key("poll.gap_watch", "24h", "How long an id that was skipped is looked for"),
    key("series.limit", "10000", "Sets of identifying labels per source; later ones become __overflow__"),
    key("series.birth_hold", "90s", "How long a new series stays 0 after the first scrape that showed it"),
    key("series.exemplars", "true", "Whether counters and buckets name the newest row behind them, for OpenMetrics"),
    key("state.file", "", "Where totals survive a restart; without it they are recounted from the tables"),
    key("queries.dir", "", "A directory of NAME.sql and NAME.toml; without it the shipped queries are used"),
    key("web.listen_address", ":10060", "Where to serve: HOST:PORT, or :PORT for IPv4 and IPv6; several with commas"),
    key("web.systemd_socket", "false", "Whether to serve on the sockets of a systemd socket unit instead"),
    key("web.telemetry_path", "/metrics", "The path of the metrics"),
    key("web.config_file", "", "TLS and users, in the format of Prometheus' exporter-toolkit"),
    key("web.openmetrics_created", "false", "Whether OpenMetrics carries _created"),
    key(
        "web.show_details",
        "false",
        "Whether the status page shows SQL, errors and settings to clients that do not log in",
    ),
    key("log.level", "info", "error, warn, info, debug or trace"),
    key("log.format", "logfmt", "logfmt or json"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_every_setting_as_it_is() {
        let document = include_str!("../../doc/settings.md");
        let shown: Vec<&str> = document.lines().filter(|line| line.starts_with("| `") && line.contains('.')).collect();
        for Key { name, default, help } in KEYS {
            let default = if default.is_empty() { "none".to_owned() } else { format!("`{default}`") };
            let line = format!("| `{name}` | {default} | {help} |");
            assert!(shown.contains(&line.as_str()), "doc/settings.md lacks:\n{line}");
        }
    }
}
