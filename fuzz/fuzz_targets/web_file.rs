//! The file of `web.config_file`: no hash in it is ever shown.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use rsolv_exporter::web::config::WebConfig;

fuzz_target!(|text: &str| {
    match WebConfig::parse(text, Path::new("/etc/web")) {
        Ok(config) => {
            let shown = format!("{config:?}");
            assert!(!config.users.values().any(|hash| shown.contains(&hash.0)));
        }
        Err(problems) => assert!(!problems.is_empty()),
    }
});
