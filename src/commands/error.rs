//! Why a command did not do what it was asked for.

use std::error::Error;
use std::io;

use super::FAILED;
use crate::postgres::Failure;
use crate::query::resolved::InvalidSelector;

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Wrong usage or configuration: what cannot be used, and all that is wrong with it.
    #[error("{what}:\n  {}", problems.join("\n  "))]
    Misused {
        /// What cannot be used.
        what: &'static str,
        /// What is wrong with it, a line each.
        problems: Vec<String>,
    },
    /// The answer could not be written.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
    /// It could not be done.
    #[error("{0}")]
    Failed(Box<dyn Error + Send + Sync>),
}

impl CommandError {
    /// It could not be done, for this reason.
    pub fn failed(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(reason.into())
    }

    /// What was asked for does not exist, or makes no sense.
    pub fn invalid_question(problem: impl ToString) -> Self {
        Self::Misused { what: "this cannot be asked", problems: vec![problem.to_string()] }
    }

    /// Settings that cannot be used.
    pub fn invalid_settings(problems: Vec<String>) -> Self {
        Self::Misused { what: "these settings cannot be used", problems }
    }

    /// A web configuration that cannot be used.
    pub fn invalid_web_config(problems: Vec<String>) -> Self {
        Self::Misused { what: "this web configuration (web.config_file) cannot be used", problems }
    }

    /// The exit status: 1 for what could not be done, 2 for wrong usage or configuration.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Misused { .. } => 2,
            // A reader that has gone (`| head`) has seen what it wanted.
            Self::Write(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Write(_) | Self::Failed(_) => FAILED,
        }
    }
}

impl From<Failure> for CommandError {
    fn from(failure: Failure) -> Self {
        Self::failed(failure)
    }
}

impl From<InvalidSelector> for CommandError {
    fn from(invalid: InvalidSelector) -> Self {
        Self::invalid_question(invalid)
    }
}
