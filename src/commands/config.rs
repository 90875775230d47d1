//! The command `config`: every setting with its value and where that comes from.

use crate::commands::text_table::{Column, table};
use crate::config::{KEYS, Key, Settings};

/// Every key with its value and where that comes from, as a table; no password.
pub fn settings(settings: &Settings) -> String {
    let row = |key: &Key| {
        let shown = settings.shown.iter().find(|(name, ..)| name == key.name);
        let (value, origin) = shown.map_or(("", "not set"), |(_, value, origin)| (value, origin));
        [key.name, value, if origin.is_empty() { "default" } else { origin }].map(str::to_owned).to_vec()
    };
    let columns = ["key", "value", "set by"].map(|name| Column { name: name.into(), right: false, cut: false });
    table(&columns, &KEYS.iter().map(row).collect::<Vec<_>>(), usize::MAX).0
}
