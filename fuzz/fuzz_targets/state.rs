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
    let of_version = |version: u32| {
        let crc = crc32fast::hash(bytes);
        let head = format!("rsolv-exporter state {version} crc32 {crc:08x} bytes {}\n", bytes.len());
        [head.as_bytes(), bytes].concat()
    };
    for content in [bytes, &of_version(1), &of_version(2)] {
        fs::write(&*PATH, content).expect("room in memory");
        let Ok(state) = state::load(&PATH) else { continue };
        for (name, saved) in state.sources {
            for source in SOURCES.iter().filter(|source| source.name == name) {
                let _ = saved.clone().resume(source, source.shape(10));
            }
        }
    }
});
