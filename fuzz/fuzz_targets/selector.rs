//! Selectors: what is read, written and read again is the same.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rsolv_exporter::query::resolved::ResolvedSelector;
use rsolv_exporter::query::selector::Selector;
use rsolv_exporter::source::Source;

static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| Source::shipped().expect("good definitions"));

fuzz_target!(|text: &str| {
    if let Ok(selector) = text.parse::<Selector>() {
        let again = selector.to_string();
        assert_eq!(again.parse(), Ok(selector), "{again}");
    }
    let _ = ResolvedSelector::parse(text, &SOURCES);
});
