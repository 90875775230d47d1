//! What is wrong with an address.

/// What is wrong with an address, with the remedy. It quotes no value: that can be a part of the password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidAddress(pub String);

impl From<&str> for InvalidAddress {
    fn from(what: &str) -> Self {
        Self(what.to_owned())
    }
}

impl From<String> for InvalidAddress {
    fn from(what: String) -> Self {
        Self(what)
    }
}
