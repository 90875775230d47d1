//! Definitions: a SELECT and its TOML, here with a NUL between the two.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rsolv_exporter::source::Source;

fuzz_target!(|text: &str| {
    let (sql, toml) = text.split_once('\0').unwrap_or((include_str!("../../queries/validation_executions.sql"), text));
    match Source::parse(vec![("fuzzed".to_owned(), sql.to_owned(), toml.to_owned())], "queries") {
        Ok(sources) => sources.iter().for_each(|source| _ = source.shape(1)),
        Err(problems) => assert!(!problems.is_empty()),
    }
});
