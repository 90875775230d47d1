//! What the environment says of a database: libpq's variables, and the files that they name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::conninfo::Pairs;
use super::invalid::InvalidAddress;
use super::parameters::{self, PARAMETERS, Parameter};

/// libpq's environment variables, and where the user's own files are. Its `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

/// Where Debian's and the source's libpq look for `pg_service.conf` if `PGSYSCONFDIR` is not set.
const SYSTEM: [&str; 2] = ["/etc/postgresql-common", "/usr/local/pgsql/etc"];

impl Environment {
    /// Takes what libpq would look at.
    pub fn new(variables: &BTreeMap<String, String>) -> Self {
        let ours = |name: &str| {
            ["HOME", "PGSYSCONFDIR", "PGREQUIRESSL"].contains(&name)
                || PARAMETERS.iter().any(|p| !p.variable.is_empty() && p.variable == name)
        };
        Self(variables.iter().filter(|(name, _)| ours(name)).map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    /// True if it says which database to read.
    pub fn names_a_database(&self) -> bool {
        ["PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE"].iter().any(|name| self.0.contains_key(*name))
    }

    /// The value of a parameter's variable.
    pub fn get(&self, parameter: &Parameter) -> Option<&str> {
        match self.0.get(parameter.variable) {
            Some(value) => Some(value),
            // What sslmode was before it had more than two values.
            None if parameter.name == "sslmode" && self.0.get("PGREQUIRESSL").is_some_and(|v| v == "1") => {
                Some("require")
            }
            None => None,
        }
    }

    /// A file in the user's home directory, if there is one of this name.
    pub fn home(&self, name: &str) -> Option<PathBuf> {
        let home = self.0.get("HOME").map(PathBuf::from).or_else(std::env::home_dir)?;
        Some(home.join(name)).filter(|path| path.exists())
    }

    /// The parameters of a service: from `file` or else the user's own file, or from the system's.
    ///
    /// # Errors
    /// Fails if no file has it, or if the one that does is not understood.
    pub fn service(&self, name: &str, file: Option<PathBuf>) -> Result<Pairs, InvalidAddress> {
        let system = match self.0.get("PGSYSCONFDIR") {
            Some(directory) => vec![PathBuf::from(directory)],
            None => SYSTEM.iter().map(PathBuf::from).collect(),
        };
        let system = system.iter().map(|d| d.join("pg_service.conf")).filter(|path| path.exists());
        let named = file.is_some();
        let files: Vec<PathBuf> = file.or_else(|| self.home(".pg_service.conf")).into_iter().chain(system).collect();
        for (i, path) in files.iter().enumerate() {
            let shown = path.display();
            let text = match std::fs::read_to_string(path) {
                Ok(text) => text,
                Err(e) if named && i == 0 => return Err(format!("cannot read the service file {shown}: {e}").into()),
                Err(_) => continue,
            };
            if let Some(found) =
                section(&text, name).map_err(|(line, e)| InvalidAddress(format!("{shown}, line {line}: {e}")))?
            {
                return Ok(found);
            }
        }
        let files: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
        let looked = if files.is_empty() {
            "there is no pg_service.conf".to_owned()
        } else {
            format!("not in {}", files.join(", "))
        };
        Err(format!("service \"{name}\" is not defined: {looked}").into())
    }
}

/// The lines of `[name]`; an error comes with the number of its line.
fn section(text: &str, name: &str) -> Result<Option<Pairs>, (usize, String)> {
    let mut found: Option<Pairs> = None;
    for (i, line) in text.lines().map(str::trim).enumerate().filter(|(_, l)| !l.is_empty() && !l.starts_with('#')) {
        if line.starts_with('[') {
            if found.is_some() {
                break;
            }
            if line == format!("[{name}]") {
                found = Some(Pairs::new());
            }
        } else if let Some(found) = &mut found {
            let wrong = |e: String| (i + 1, e);
            let (key, value) = line.split_once('=').ok_or_else(|| wrong("is not KEY=VALUE".to_owned()))?;
            if key == "service" || key.starts_with("ldap") {
                return Err(wrong(
                    "a service within a service, or one from LDAP, is not supported; write its parameters".to_owned(),
                ));
            }
            let parameter = parameters::find(key).map_err(|e| wrong(e.to_string()))?;
            found.push((parameter, value.to_owned()));
        }
    }
    Ok(found)
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_its_section() {
        let text = "# ours\n[a]\nhost=x\n\n[b]\n host=y \nport=7\n[c]\nhost=z\n";
        let found = section(text, "b").unwrap().unwrap();
        let found: Vec<_> = found.iter().map(|(p, value)| (p.name, value.as_str())).collect();
        assert_eq!(found, [("host", "y"), ("port", "7")]);
        assert!(section(text, "d").unwrap().is_none());
    }

    #[test]
    fn a_line_that_is_not_understood_is_named_and_not_quoted() {
        let (line, error) = section("[a]\nslmode=x", "a").unwrap_err();
        assert_eq!((line, error.as_str()), (2, "is no parameter of a PostgreSQL URL; did you mean sslmode?"));
        assert_eq!(section("[a]\nservice=b", "a").unwrap_err().0, 2);
    }
}
