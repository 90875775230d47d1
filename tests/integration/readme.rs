//! The README and doc/speed.md name the tests that prove what they say: they exist.

use std::fs;
use std::path::Path;

/// The text of every Rust file below a folder.
fn code(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            code(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_test_it_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let mut all = String::new();
    code(&root.join("src"), &mut all);
    code(&root.join("tests/integration"), &mut all);
    let speed = fs::read_to_string(root.join("doc/speed.md")).unwrap();
    let named = |text: &'_ str, head: &str| -> Vec<String> {
        let rows = text.lines().skip_while(|line| !line.starts_with(head)).skip(2).take_while(|l| l.starts_with('|'));
        let last = rows.map(|line| line.rsplit(" | ").next().unwrap_or_default());
        last.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
    };
    let (promises, counts) = (named(&readme, "| promise |"), named(&speed, "| count |"));
    assert!(promises.len() > 20 && counts.len() > 5, "{promises:?} {counts:?}");
    let names: Vec<String> = promises.into_iter().chain(counts).collect();
    for name in names {
        let test = name.rsplit("::").next().unwrap();
        let is_there = all.contains(&format!("fn {test}(")) || all.contains(&format!("mod {test};"));
        assert!(is_there, "README.md or doc/speed.md names the test {name}, which is not there");
    }
}
