//! Reads YAML by key and gathers what is wrong.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use saphyr::{Scalar, Yaml};

use super::{Pem, Secret};

/// A mapping with its known keys.
pub struct Section<'a> {
    /// Where it stands, as people write it.
    name: &'static str,
    nodes: BTreeMap<String, &'a Yaml<'a>>,
}

impl<'a> Section<'a> {
    /// The node of a key.
    pub fn get(&self, key: &str) -> Option<&&'a Yaml<'a>> {
        self.nodes.get(key)
    }

    /// True if it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn key(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

/// What is wrong so far. No message quotes a value that could be a secret in the wrong place.
pub struct Reader {
    dir: PathBuf,
    /// The problems, each with its key.
    pub problems: Vec<String>,
}

impl Reader {
    /// A reader for a file in `dir`, where relative paths start.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), problems: Vec::new() }
    }

    /// Notes a problem with a key.
    pub fn wrong(&mut self, key: &str, message: impl Into<String>) {
        self.problems.push(match key {
            "" => message.into(),
            key => format!("{key}: {}", message.into()),
        });
    }

    /// A mapping whose keys are all among `known`; what is absent or null is empty.
    pub fn section<'a>(&mut self, name: &'static str, node: Option<&'a Yaml<'a>>, known: &[&str]) -> Section<'a> {
        let mut section = Section { name, nodes: BTreeMap::new() };
        match node {
            None => {}
            Some(node) if is_null(node) => {}
            Some(Yaml::Mapping(mapping)) => {
                for (key, value) in mapping {
                    match text(key).filter(|key| known.contains(&key.as_ref())) {
                        Some(key) => _ = section.nodes.insert(key.into_owned(), value),
                        None => {
                            let key = text(key).unwrap_or(Cow::Borrowed("(not text)"));
                            self.wrong(&section.key(&key), format!("unknown key; known are {}", known.join(", ")));
                        }
                    }
                }
            }
            Some(_) => self.wrong(name, "must be a mapping of keys to values"),
        }
        section
    }

    /// A mapping of any text to text.
    pub fn pairs(&mut self, name: &str, node: Option<&Yaml<'_>>) -> Vec<(String, String)> {
        match node {
            None => Vec::new(),
            Some(node) if is_null(node) => Vec::new(),
            Some(Yaml::Mapping(mapping)) => {
                let pair = |(key, value)| Some((text(key)?.into_owned(), text(value)?.into_owned()));
                let pairs: Vec<_> = mapping.iter().filter_map(pair).collect();
                if pairs.len() < mapping.len() {
                    self.wrong(name, "names and values must be text: put numbers and the like in quotes");
                }
                pairs
            }
            Some(_) => {
                self.wrong(name, "must be a mapping of names to values");
                Vec::new()
            }
        }
    }

    /// A text.
    pub fn text(&mut self, section: &Section<'_>, key: &str) -> Option<String> {
        self.value(section, key, "text", |node| text(node).map(Cow::into_owned))
    }

    /// A list of texts; empty when absent.
    pub fn texts(&mut self, section: &Section<'_>, key: &str) -> Vec<String> {
        let list = |node: &Yaml<'_>| match node {
            Yaml::Sequence(items) => items.iter().map(|item| text(item).map(Cow::into_owned)).collect(),
            _ => None,
        };
        self.value(section, key, "a list of texts", list).unwrap_or_default()
    }

    /// True or false.
    pub fn flag(&mut self, section: &Section<'_>, key: &str) -> Option<bool> {
        self.value(section, key, "true or false", |node| match node {
            Yaml::Value(Scalar::Boolean(flag)) => Some(*flag),
            _ => None,
        })
    }

    /// A whole number.
    pub fn whole(&mut self, section: &Section<'_>, key: &str) -> Option<u32> {
        self.value(section, key, "a whole number", |node| match node {
            Yaml::Value(Scalar::Integer(number)) => u32::try_from(*number).ok(),
            _ => None,
        })
    }

    /// A time such as `1s`, or 0.
    pub fn duration(&mut self, section: &Section<'_>, key: &str) -> Option<Duration> {
        self.value(section, key, "a duration such as 1s or 250ms, or 0", |node| match node {
            Yaml::Value(Scalar::Integer(0)) => Some(Duration::ZERO),
            node => humantime::parse_duration(&text(node)?).ok(),
        })
    }

    /// PEM in a file or inline.
    pub fn pem(&mut self, section: &Section<'_>, file: &'static str, inline: &'static str) -> Option<Pem> {
        let path = self.text(section, file).filter(|path| !path.is_empty());
        let text = self.text(section, inline).filter(|text| !text.is_empty());
        match (path, text) {
            (Some(_), Some(_)) => {
                self.wrong(&section.key(inline), format!("{file} is set as well: set one of the two"));
                None
            }
            (Some(path), None) => Some(Pem::File(file, self.dir.join(path))),
            (None, text) => text.map(|text| Pem::Inline(inline, Secret(text))),
        }
    }

    fn value<T>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        expected: &str,
        read: impl Fn(&Yaml<'_>) -> Option<T>,
    ) -> Option<T> {
        let node = section.get(key).filter(|node| !is_null(node))?;
        let value = read(node);
        if value.is_none() {
            self.wrong(&section.key(key), format!("must be {expected}"));
        }
        value
    }
}

fn is_null(node: &Yaml<'_>) -> bool {
    matches!(node, Yaml::Value(Scalar::Null))
}

fn text<'a>(node: &'a Yaml<'_>) -> Option<Cow<'a, str>> {
    match node {
        Yaml::Value(Scalar::String(text)) => Some(Cow::Borrowed(text.as_ref())),
        _ => None,
    }
}
