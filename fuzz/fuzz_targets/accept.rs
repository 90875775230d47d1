//! The headers `Accept` and `Accept-Encoding`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rsolv_exporter::exposition::accept;

fuzz_target!(|text: &str| {
    accept::format(text);
    accept::gzip(text);
});
