//! What a command is started with: its arguments, and the settings from flags, environment and file.

use std::path::{Path, PathBuf};

use clap::ArgMatches;

use super::CommandError;
use crate::config::{ConfigFileError, Invalid, Layers, Settings, Web};
use crate::source::Source;
use crate::telemetry::log;

/// What a command is started with.
#[derive(Debug)]
pub struct Invocation {
    /// The arguments of the command.
    pub arguments: ArgMatches,
    /// The whole command line that the program takes.
    pub program: clap::Command,
    /// What is set, or why the file with settings cannot be read.
    layers: Result<Layers, ConfigFileError>,
}

impl Invocation {
    /// An invocation with these arguments of a command; a file that cannot be read matters only to commands that need
    /// settings.
    pub fn new(arguments: ArgMatches, program: clap::Command, layers: Result<Layers, ConfigFileError>) -> Self {
        Self { arguments, program, layers }
    }

    /// The text of an argument of the command.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.arguments.get_one::<String>(name).map(String::as_str)
    }

    fn layers(&self) -> Result<&Layers, CommandError> {
        self.layers.as_ref().map_err(|problem| CommandError::invalid_settings(vec![problem.to_string()]))
    }

    /// The settings.
    ///
    /// # Errors
    /// Fails with all that is wrong with them.
    pub fn settings(&self) -> Result<Settings, CommandError> {
        Settings::check(self.layers()?).map_err(invalid)
    }

    /// The settings of `[web]` alone, whatever the others are.
    ///
    /// # Errors
    /// Fails with all that is wrong with them.
    pub fn web(&self) -> Result<Web, CommandError> {
        Web::check(self.layers()?).map_err(invalid)
    }

    /// The definitions in `queries.dir`, or the shipped ones, whatever the other settings are.
    ///
    /// # Errors
    /// Fails with all that is wrong with them.
    pub fn sources(&self) -> Result<Vec<Source>, CommandError> {
        let dir = self.layers()?.get("queries.dir").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let sources = dir.as_deref().map_or_else(Source::shipped, |dir: &Path| Source::load(dir));
        sources.map_err(|problems| CommandError::Misused {
            what: "these definitions cannot be used",
            problems: problems.iter().map(ToString::to_string).collect(),
        })
    }

    /// The settings and definitions of a command that reads the database; logging has begun.
    ///
    /// # Errors
    /// Fails with all that is wrong with them.
    pub fn prepare(&self) -> Result<(Settings, Vec<Source>), CommandError> {
        let (settings, sources) = (self.settings()?, self.sources()?);
        start_log(&settings);
        Ok((settings, sources))
    }
}

/// Begins to log, first of all what should be set otherwise.
pub fn start_log(settings: &Settings) {
    log::start(settings.log);
    settings.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
}

fn invalid(problems: Vec<Invalid>) -> CommandError {
    CommandError::invalid_settings(problems.iter().map(ToString::to_string).collect())
}
