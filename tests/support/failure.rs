//! The one error type of the harness.

use std::error::Error;
use std::fmt;

/// What went wrong, in words for a person.
///
/// `Debug` prints the text as it is, so that `unwrap()` in a test shows log
/// tails with their line breaks.
pub struct Failure(String);

pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Failure {}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        // The driver's own text is only "db error" or "error connecting to
        // server"; the reason is the error below it.
        Self(match error.source() {
            Some(reason) => format!("{error}: {reason}"),
            None => error.to_string(),
        })
    }
}
