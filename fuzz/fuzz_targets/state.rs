//! The state file: as it is, and as the JSON of one whose head fits. What is loaded can be resumed.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rsolv_exporter::source::Source;
use rsolv_exporter::state;

static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| Source::shipped().expect("good definitions"));
/// In memory.
static PATH: LazyLock<PathBuf> = LazyLock::new(|| format!("/dev/shm/rsolv-fuzz-{}", std::process::id()).into());

fuzz_target!(|bytes: &[u8]| {
    let head = format!("rsolv-exporter state 1 crc32 {:08x} bytes {}\n", crc32fast::hash(bytes), bytes.len());
    for content in [bytes, &[head.as_bytes(), bytes].concat()] {
        fs::write(&*PATH, content).expect("room in memory");
        let Ok(state) = state::load(&PATH) else { continue };
        for (name, saved) in state.sources {
            for source in SOURCES.iter().filter(|source| source.name == name) {
                let _ = saved.clone().resume(source, source.shape(10));
            }
        }
    }
});
