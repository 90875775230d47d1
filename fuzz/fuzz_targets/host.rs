//! The header `Host`: what is taken for a host is one to another parser as well.
#![no_main]

use http::uri::Authority;
use libfuzzer_sys::fuzz_target;
use rsolv_exporter::web::host;

fuzz_target!(|text: &str| {
    if host::is_host(text) {
        let authority: Authority = text.parse().expect("a host is an authority");
        assert!(!authority.host().is_empty() && !text.contains('@'));
    }
});
