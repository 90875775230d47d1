//! The URL of the database: the password in it is never shown.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use rsolv_exporter::postgres::{Environment, Options, Password, Target, Timeouts, Url};

const PASSWORD: &str = "hunter2";

fuzz_target!(|text: &str| {
    // No file that a parameter names is read.
    if ["file", "cert", "key", "crl", "service"].iter().any(|name| text.contains(name)) {
        return;
    }
    let limit = Duration::from_secs(1);
    for url in [text.to_owned(), format!("postgres://user:{PASSWORD}@{text}"), format!("password={PASSWORD} {text}")] {
        let options = Options {
            url: Url::Text(url),
            password: Password::Address,
            environment: Environment::default(),
            timeouts: Timeouts { connect: limit, statement: limit, lock: limit },
            url_may_set_timeout: true,
            max_lifetime: limit,
        };
        let said = match Target::new(options) {
            Ok(target) => format!("{target} {target:?}"),
            Err((_, problem)) => problem,
        };
        assert!(text.contains(PASSWORD) || !said.contains(PASSWORD), "{said}");
    }
});
