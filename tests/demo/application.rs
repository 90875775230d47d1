//! The settings of the application whose executions the demo makes up: the flag counts before the environment, and the
//! environment before `.github/rsolv.yml`.

use std::path::Path;

use saphyr::{LoadableYamlNode, Yaml};

/// Where a repository keeps its settings.
const FILE: &str = ".github/rsolv.yml";

/// How the application works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Application {
    /// True if validations write tests and run them; without, they are passed without tests.
    pub executable_tests: bool,
    /// A mitigation gives up after so many turns.
    pub max_turns: u32,
}

/// A setting: its key in the file, its variable, its default and what it may be.
struct Setting<T> {
    key: &'static str,
    variable: &'static str,
    default: T,
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
}

const EXECUTABLE_TESTS: Setting<bool> = Setting {
    key: "executable_tests",
    variable: "RSOLV_EXECUTABLE_TESTS",
    default: true,
    expected: "true or false",
    parse: |text| text.parse().ok(),
};

const MAX_TURNS: Setting<u32> = Setting {
    key: "claude_max_turns",
    variable: "RSOLV_CLAUDE_MAX_TURNS",
    default: 5,
    expected: "a whole number from 1 to 20",
    parse: |text| text.parse().ok().filter(|turns| (1..=20).contains(turns)),
};

impl<T: Copy> Setting<T> {
    /// The first of flag, variable and key that is set.
    fn read(
        &self,
        flag: Option<&str>,
        variable: impl Fn(&str) -> Option<String>,
        file: Option<&Yaml<'_>>,
    ) -> Result<T, String> {
        let in_file = file.and_then(|yaml| yaml.as_mapping_get(self.key)).map(scalar);
        let all = [
            (format!("--{}", self.key.replace('_', "-")), flag.map(str::to_owned)),
            (self.variable.to_owned(), variable(self.variable).filter(|text| !text.is_empty())),
            (format!("{FILE}: {}", self.key), in_file),
        ];
        let Some((origin, text)) = all.into_iter().find_map(|(origin, text)| Some((origin, text?))) else {
            return Ok(self.default);
        };
        (self.parse)(&text).ok_or_else(|| format!("{origin} must be {}, and is \"{text}\"", self.expected))
    }
}

/// A value as it is written; a list or a table is nothing that a setting can be.
fn scalar(value: &Yaml) -> String {
    let number = value.as_integer().map(|number| number.to_string());
    let text = value.as_bool().map(|yes| yes.to_string()).or(number).or(value.as_str().map(str::to_owned));
    text.unwrap_or_else(|| "a list or a table".to_owned())
}

impl Application {
    /// Reads the settings, the file from the repository in `folder`; says what is wrong with them.
    pub fn read(
        [tests, turns]: [Option<&str>; 2],
        variable: impl Fn(&str) -> Option<String>,
        folder: &Path,
    ) -> Result<Self, String> {
        let text = match std::fs::read_to_string(folder.join(FILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(format!("cannot read {FILE}: {error}")),
        };
        let documents = Yaml::load_from_str(&text).map_err(|error| format!("{FILE}: {error}"))?;
        let file = documents.first();
        Ok(Self {
            executable_tests: EXECUTABLE_TESTS.read(tests, &variable, file)?,
            max_turns: MAX_TURNS.read(turns, &variable, file)?,
        })
    }
}
