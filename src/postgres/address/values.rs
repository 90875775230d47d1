//! What is said of a database in all places together: the URL over the service file over the environment.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::conninfo;
use super::environment::Environment;
use super::invalid::InvalidAddress;
use super::parameters::{Fate, PARAMETERS, Parameter};

/// The parameters that are set, each with the place that set it.
pub struct Values {
    set: BTreeMap<&'static str, (String, String)>,
    /// Log lines about what was taken from elsewhere and what changes nothing; names only.
    pub notes: Vec<String>,
}

impl Values {
    /// Gathers what the URL says, and for what it leaves open the service file and the environment, as libpq does.
    pub fn gather(url: &str, environment: &Environment) -> Result<Self, InvalidAddress> {
        let mut values = Self { set: BTreeMap::new(), notes: Vec::new() };
        let mut ignored = Vec::new();
        for (parameter, text) in conninfo::split(url)? {
            values.add(parameter, text, parameter.name, "", &mut ignored)?;
        }
        values.spell_out_sslmode();
        values.add_service(environment, &mut ignored)?;
        values.spell_out_sslmode();
        let (mut taken, mut unused) = (Vec::new(), Vec::new());
        for parameter in PARAMETERS {
            let Some(text) = environment.get(parameter) else { continue };
            match values.set.get(parameter.name) {
                Some((said, _)) if said == text => {}
                Some(_) => unused.push(parameter.variable),
                None => {
                    let origin = format!("{}: ", parameter.variable);
                    values.add(parameter, text.to_owned(), parameter.variable, &origin, &mut ignored)?;
                    taken.push(parameter.variable);
                }
            }
        }
        taken.retain(|name| !ignored.iter().any(|ignored| ignored == name));
        for (what, names) in [
            ("taken from the environment", taken.join(", ")),
            ("in the environment and not used, since the URL or the service says otherwise", unused.join(", ")),
            ("without effect on the exporter", ignored.join(", ")),
        ] {
            if !names.is_empty() {
                values.notes.push(format!("{what}: {names}"));
            }
        }
        Ok(values)
    }

    /// Makes `sslmode` of the switches that say less: Ecto's, which is JDBC's too and known to libpq, and `requiressl`, which
    /// libpq had before `sslmode`.
    fn spell_out_sslmode(&mut self) {
        let mut requires = |name, yes| self.set.remove(name).is_some_and(|(text, _)| text.starts_with(yes));
        let is_required = requires("ssl", "true") | requires("requiressl", "1");
        if is_required && !self.set.contains_key("sslmode") {
            self.set.insert("sslmode", ("require".to_owned(), String::new()));
        }
    }

    fn add_service(&mut self, environment: &Environment, ignored: &mut Vec<String>) -> Result<(), InvalidAddress> {
        let variable = |name: &str| {
            let parameter = PARAMETERS.iter().find(|p| p.name == name)?;
            environment.get(parameter).map(ToOwned::to_owned)
        };
        let said =
            |name: &str| self.get(name).map(ToOwned::to_owned).or_else(|| variable(name)).filter(|s| !s.is_empty());
        let Some(name) = said("service") else { return Ok(()) };
        for (parameter, text) in environment.service(&name, said("servicefile").map(Into::into))? {
            if !self.set.contains_key(parameter.name) {
                self.add(parameter, text, parameter.name, &format!("service {name}: "), ignored)?;
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        parameter: &'static Parameter,
        text: String,
        shown: &str,
        origin: &str,
        ignored: &mut Vec<String>,
    ) -> Result<(), InvalidAddress> {
        parameter.check(&text).map_err(|e| InvalidAddress(format!("{origin}{e}")))?;
        if parameter.fate == Fate::Ignored {
            ignored.push(shown.to_owned());
        } else {
            self.set.insert(parameter.name, (text, origin.to_owned()));
        }
        Ok(())
    }

    /// The text of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.set.get(name).map(|(text, _)| text.as_str())
    }

    /// The text of a parameter for which an empty one means none.
    pub fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|text| !text.is_empty())
    }

    /// An error about a parameter, which says where it was set.
    pub fn wrong(&self, name: &str, what: &str) -> InvalidAddress {
        let origin = self.set.get(name).map_or("", |(_, origin)| origin);
        InvalidAddress(format!("{origin}{name} {what}"))
    }

    /// One of these words, or the first if the parameter is not set.
    pub fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<T, InvalidAddress> {
        let Some(text) = self.get(name) else { return Ok(words[0].1) };
        words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let (last, others) = words.split_last().unwrap_or((&"", &[]));
            self.wrong(name, &format!("must be {} or {last}", others.join(", ")))
        })
    }

    /// A number, if the parameter is set.
    pub fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, InvalidAddress> {
        let parse =
            |text: &str| text.trim().parse().map_err(|_| self.wrong(name, "must be a whole number in its range"));
        self.get(name).map(parse).transpose()
    }
}
