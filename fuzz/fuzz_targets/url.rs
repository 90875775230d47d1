//! The URL of the database: the password in it is never shown.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use rsolv_exporter::postgres::{Target, Timeouts};

const PASSWORD: &str = "hunter2";

fuzz_target!(|text: &str| {
    let limit = Duration::from_secs(1);
    for url in [text.to_owned(), format!("postgres://user:{PASSWORD}@{text}"), format!("password={PASSWORD} {text}")] {
        let said = match Target::parse(&url, limit, Timeouts { statement: limit, lock: limit }) {
            Ok(target) => format!("{target} {target:?}"),
            Err(problem) => problem,
        };
        assert!(text.contains(PASSWORD) || !said.contains(PASSWORD), "{said}");
    }
});
