//! The file of settings: all that is wrong is said without the password.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use rsolv_exporter::config::{Layers, Settings};

const PASSWORD: &str = "hunter2";

fuzz_target!(|text: &str| {
    // No file that the settings name is read.
    if text.contains("file") {
        return;
    }
    let file = format!("[database]\nurl = \"postgres://user:{PASSWORD}@host/db\"\n{text}");
    let said = match Layers::new(Some(("x.toml", &file)), BTreeMap::new(), BTreeMap::new()) {
        Err(problem) => problem,
        Ok(layers) => match Settings::check(&layers) {
            Ok(settings) => format!("{settings:?}"),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        },
    };
    assert!(text.contains(PASSWORD) || !said.contains(PASSWORD), "{said}");
});
