//! The layers that settings come from, laid over each other.

use std::collections::BTreeMap;

use config::{Config, File, FileFormat, Map, Value, ValueKind};

use super::Invalid;
use super::keys::{KEYS, Key, PREFIX};
use crate::postgres::Environment;

/// What is set, by key, with its origin. Values are text; they are parsed by whoever knows their type.
#[derive(Clone, Debug)]
pub struct Layers {
    set: BTreeMap<String, (String, String)>,
    environment: Environment,
}

/// Why the file with settings cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigFileError {
    /// It cannot be read.
    #[error("--config.file: cannot read {path}: {why}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why not.
        why: String,
    },
    /// It is no TOML.
    #[error("{path}: {why}")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong, and where; the line is not quoted, as it can hold a password.
        why: String,
    },
}

/// Reads the file at `path` and lays the layers over each other.
///
/// # Errors
/// Fails if the file cannot be read or is no TOML.
pub fn load(
    path: Option<&str>,
    environment: BTreeMap<String, String>,
    flags: BTreeMap<String, String>,
) -> Result<Layers, ConfigFileError> {
    let read = |path: &str| {
        let unreadable = |e: std::io::Error| ConfigFileError::Unreadable { path: path.to_owned(), why: e.to_string() };
        std::fs::read_to_string(path).map_err(unreadable)
    };
    let text = path.map(read).transpose()?;
    Layers::new(path.zip(text.as_deref()), environment, flags)
}

impl Layers {
    /// Lays flags over the environment over the file (name and text) over the defaults.
    ///
    /// # Errors
    /// Fails if the text is no TOML.
    pub fn new(
        file: Option<(&str, &str)>,
        environment: BTreeMap<String, String>,
        flags: BTreeMap<String, String>,
    ) -> Result<Self, ConfigFileError> {
        let mut layers = BTreeMap::new();
        for key in KEYS.iter().filter(|key| !key.default.is_empty()) {
            layers.insert(key.name.to_owned(), (key.default.to_owned(), String::new()));
        }
        if let Some((name, text)) = file {
            let parsed = Config::builder().add_source(File::from_str(text, FileFormat::Toml)).build();
            // Its text can quote the line, and with it a password; the position is in the same sentence.
            let malformed = |e: config::ConfigError| redacted(&e.to_string());
            let parsed = parsed.map_err(|e| ConfigFileError::Malformed { path: name.to_owned(), why: malformed(e) })?;
            flatten("", parsed.cache.kind, &mut |key, value| {
                layers.insert(key.to_owned(), (value, name.to_owned()));
            });
        }
        // The platform's own variable is as good as database.url, unless a file with the URL is named.
        let url_file = ["database.url_file".to_owned()];
        let url_file = layers.contains_key(&url_file[0])
            || flags.contains_key(&url_file[0])
            || environment.contains_key("RSOLV_EXPORTER_DATABASE__URL_FILE");
        if let Some(url) = environment.get("DATABASE_URL").filter(|_| !url_file) {
            layers.insert("database.url".to_owned(), (url.clone(), "DATABASE_URL".to_owned()));
        }
        // Without two underscores it is no setting: Kubernetes makes RSOLV_EXPORTER_PORT for a Service of that name.
        for (variable, value) in &environment {
            if let Some(key) = variable.strip_prefix(PREFIX).filter(|key| key.contains("__")) {
                layers.insert(key.replacen("__", ".", 1).to_lowercase(), (value.clone(), variable.clone()));
            } else if KEYS.iter().any(|key| key.variable().replace("__", "_") == *variable) {
                // What people write who do not know of the second underscore. It is no key, and so refused.
                layers.insert(variable.clone(), (value.clone(), String::new()));
            }
        }
        for (key, value) in flags {
            let origin = KEYS.iter().find(|k| k.name == key).map_or_else(String::new, |k| format!("--{}", k.flag()));
            layers.insert(key, (value, origin));
        }
        Ok(Self { set: layers, environment: Environment::new(&environment) })
    }

    /// The text of a key.
    pub fn get(&self, key: &str) -> Option<String> {
        self.set.get(key).map(|(value, _)| value.clone())
    }

    /// Who set a key; empty for a default.
    pub fn origin(&self, key: &str) -> String {
        self.set.get(key).map(|(_, origin)| origin.clone()).unwrap_or_default()
    }

    /// What libpq would find in the environment.
    pub fn environment(&self) -> Environment {
        self.environment.clone()
    }

    /// Every key that has a value, with it and its origin; the values of keys in `secret` are replaced by those there.
    pub fn shown(&self, secret: &BTreeMap<&str, String>) -> Vec<(String, String, String)> {
        let known = KEYS.iter().filter_map(|key| Some((key.name, self.set.get(key.name)?)));
        let shown = known.map(|(key, (value, origin))| {
            (key.to_owned(), secret.get(key).unwrap_or(value).to_owned(), origin.clone())
        });
        shown.collect()
    }

    /// Keys that no setting has.
    pub fn unknown(&self) -> Vec<Invalid> {
        let unknown = self.set.iter().filter(|(key, _)| !KEYS.iter().any(|k| k.name == key.as_str()));
        let unknown = unknown.map(|(key, (_, origin))| Invalid {
            key: key.clone(),
            origin: origin.clone(),
            message: match meant(key, origin) {
                Some(meant) => format!("is no setting; did you mean {meant}?"),
                None => "is no setting; see rsolv-exporter --help".to_owned(),
            },
        });
        unknown.collect()
    }
}

/// The setting that somebody meant who wrote `key`, in the words of where it was written.
fn meant(key: &str, origin: &str) -> Option<String> {
    if let Some(known) = KEYS.iter().find(|known| known.variable().replace("__", "_") == key) {
        return Some(known.variable());
    }
    let alike = |known: &Key| strsim::jaro_winkler(known.name, key);
    let best = KEYS.iter().max_by(|a, b| alike(a).total_cmp(&alike(b))).filter(|known| alike(known) > 0.9)?;
    Some(if origin.starts_with(PREFIX) { best.variable() } else { best.name.to_owned() })
}

fn flatten(prefix: &str, kind: ValueKind, visit: &mut impl FnMut(&str, String)) {
    match kind {
        ValueKind::Table(table) => {
            let table: Map<String, Value> = table;
            for (key, value) in table {
                let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
                flatten(&key, value.kind, visit);
            }
        }
        // A list of texts is written like the same list in a variable.
        ValueKind::Array(entries) => {
            visit(prefix, entries.iter().map(|entry| entry.kind.to_string()).collect::<Vec<_>>().join(","));
        }
        other => visit(prefix, other.to_string()),
    }
}

/// An error of the TOML parser without the line that it quotes.
fn redacted(error: &str) -> String {
    let lines = error
        .lines()
        .filter(|line| !line.trim_start().starts_with(|c: char| c.is_ascii_digit()) && !line.contains('|'));
    lines.map(str::trim).collect::<Vec<_>>().join(": ")
}
