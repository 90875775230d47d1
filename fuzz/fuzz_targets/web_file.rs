//! The file of `web.config_file`: no hash in it is ever shown.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use rsolv_exporter::web::config::WebConfig;

fuzz_target!(|text: &str| {
    match WebConfig::parse(text, Path::new("/etc/web")) {
        Ok(config) => assert!(!format!("{config:?}").contains("$2")),
        Err(problems) => assert!(!problems.is_empty()),
    }
});
