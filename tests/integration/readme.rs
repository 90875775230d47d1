//! The README names the tests that prove its promises: they exist.

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
    let promises = readme.lines().skip_while(|line| !line.starts_with("| promise |")).skip(2);
    let names: Vec<&str> = promises
        .take_while(|line| line.starts_with('|'))
        .flat_map(|line| line.rsplit(" | ").next().unwrap_or_default().split('`').skip(1).step_by(2))
        .collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        let test = name.rsplit("::").next().unwrap();
        let is_there = all.contains(&format!("fn {test}(")) || all.contains(&format!("mod {test};"));
        assert!(is_there, "README.md names the test {name}, which is not there");
    }
}
