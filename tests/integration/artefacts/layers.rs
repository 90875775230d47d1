//! The layers of `src/`: no module is imported in a ring, the pure ones do no I/O, and only `postgres` speaks to
//! PostgreSQL. Read from the text, without what only tests compile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Modules without I/O; of `source`, the file that reads the definitions is left out.
const PURE: [&str; 5] = ["source", "query", "sql", "ledger", "exposition"];
/// The files of pure modules that may read files.
const READS_FILES: [&str; 1] = ["source/mod.rs"];
/// What does I/O, or leads to it.
const IMPURE: [&str; 16] = [
    "std::env",
    "std::fs",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "hyper",
    "hyper_util",
    "libc",
    "listenfd",
    "rustix",
    "socket2",
    "tokio",
    "tokio_openssl",
    "tokio_postgres",
    "whoami",
];
/// What of those only waits or keeps time.
const NO_IO: [&str; 2] = ["tokio::sync", "tokio::time"];

/// A file of `src/`: its path, the module that it is, and its text as far as the program has it.
struct File {
    path: String,
    module: Vec<String>,
    text: String,
}

fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut paths, mut folders): (Vec<PathBuf>, _) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { paths.push(path) }
        }
    }
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let path = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let module = path.trim_end_matches(".rs").split('/').filter(|part| !["mod", "lib", "main"].contains(part));
        File { module: module.map(str::to_owned).collect(), text: without_tests(&text), path }
    };
    let mut files: Vec<File> = paths.iter().map(read).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    // A file that only tests have is named by nobody else.
    let named = |file: &File| match file.module.split_last() {
        Some((name, folder)) => files.iter().any(|parent| {
            parent.module == folder && parent.text.lines().any(|line| line.ends_with(&format!("mod {name};")))
        }),
        None => true,
    };
    let kept: Vec<bool> = files.iter().map(named).collect();
    assert!(kept.iter().filter(|kept| **kept).count() > 100, "the modules are not found");
    files.into_iter().zip(kept).filter_map(|(file, kept)| kept.then_some(file)).collect()
}

/// A formatted text without comments and without items that only tests compile.
fn without_tests(text: &str) -> String {
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut kept = String::new();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let is_end =
            |line: &&str| line.starts_with(&format!("{indent}}}")) || line.ends_with(';') && line.starts_with(indent);
        let first = lines.by_ref().find(|line| !line.trim_start().starts_with("#["));
        if first.is_some_and(|line| !line.ends_with(';')) {
            lines.by_ref().find(|line| is_end(line) && !line.trim_start_matches(indent).starts_with(' '));
        }
    }
    kept
}

/// The paths that a text names behind `start` (such as `crate::`), each with its segments; groups are written out.
fn paths(text: &str, start: &str) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices(start) {
        if !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            branches(&text[at + start.len()..], &mut Vec::new(), &mut found);
        }
    }
    found
}

/// Adds what a use tree names; returns what is behind it.
fn branches<'a>(mut text: &'a str, path: &mut Vec<String>, found: &mut BTreeSet<Vec<String>>) -> &'a str {
    text = text.trim_start();
    if let Some(mut group) = text.strip_prefix('{') {
        loop {
            let depth = path.len();
            group = branches(group, path, found).trim_start();
            path.truncate(depth);
            group = match group.strip_prefix(',') {
                Some(rest) => rest.trim_start(),
                None => return group.strip_prefix('}').unwrap_or(group),
            };
            if let Some(rest) = group.strip_prefix('}') {
                return rest;
            }
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    path.push(text[..end].to_owned());
    text = &text[end..];
    match text.strip_prefix("::") {
        Some(rest) if rest.starts_with(|c: char| c.is_alphabetic() || c == '{') => branches(rest, path, found),
        _ => {
            found.insert(path.clone());
            // `name as other`
            match text.strip_prefix(" as ") {
                Some(rest) => rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'),
                None => text,
            }
        }
    }
}

/// What a file names within the crate, from its root on, through the re-exports of each module.
fn imports(file: &File, exports: &BTreeMap<Vec<String>, Vec<String>>) -> BTreeSet<Vec<String>> {
    let mut found = paths(&file.text, "crate::");
    let parent = &file.module[..file.module.len().saturating_sub(1)];
    for path in paths(&file.text, "super::") {
        let up = path.iter().take_while(|segment| *segment == "super").count();
        found.insert([&parent[..parent.len().saturating_sub(up)], &path[up..]].concat());
    }
    let through = |path: Vec<String>| {
        let alias = (1..=path.len()).find_map(|n| Some((n, exports.get(&path[..n])?)));
        alias.map_or(path.clone(), |(n, target)| [target.as_slice(), &path[n..]].concat())
    };
    found.into_iter().map(through).collect()
}

/// What modules hand on from their children, by the name under which they do.
fn exports(files: &[File]) -> BTreeMap<Vec<String>, Vec<String>> {
    let mut exports = BTreeMap::new();
    for file in files {
        let children =
            files.iter().filter(|f| f.module.len() == file.module.len() + 1 && f.module.starts_with(&file.module));
        for child in children.filter_map(|child| child.module.last()) {
            for path in paths(&file.text, &format!("use {child}::")) {
                let Some(name) = path.last() else { continue };
                let target = [file.module.as_slice(), std::slice::from_ref(child), &path].concat();
                exports.insert([file.module.as_slice(), std::slice::from_ref(name)].concat(), target);
            }
        }
    }
    exports
}

/// A way along the edges that ends where it began, if there is one.
fn ring<'a>(edges: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Option<Vec<&'a str>> {
    fn walk<'a>(
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
        edges: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    ) -> bool {
        let here = way[way.len() - 1];
        for &next in edges.get(here).into_iter().flatten() {
            if let Some(at) = way.iter().position(|module| *module == next) {
                way.drain(..at);
                way.push(next);
                return true;
            }
            if !done.contains(next) {
                way.push(next);
                if walk(way, done, edges) {
                    return true;
                }
                way.pop();
            }
        }
        done.insert(here);
        false
    }
    let mut done = BTreeSet::new();
    edges.keys().find_map(|&start| {
        let mut way = vec![start];
        (!done.contains(start) && walk(&mut way, &mut done, edges)).then_some(way)
    })
}

#[test]
fn no_modules_of_a_folder_import_each_other_in_a_ring() {
    let files = files();
    let exports = exports(&files);
    let folders: BTreeSet<&[String]> =
        files.iter().filter_map(|f| f.module.split_last()).map(|(_, folder)| folder).collect();
    let imports: Vec<_> = files.iter().map(|file| imports(file, &exports)).collect();
    for folder in folders {
        let child = |path: &'_ [String]| path.strip_prefix(folder).and_then(|rest| rest.first()).cloned();
        let children: BTreeSet<String> = files.iter().filter_map(|f| child(&f.module)).collect();
        let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (file, imports) in files.iter().zip(&imports) {
            let from = child(&file.module).and_then(|name| children.get(&name));
            let to = imports.iter().filter_map(|path| children.get(&child(path)?));
            if let Some(from) = from {
                edges.entry(from).or_default().extend(to.map(String::as_str).filter(|to| to != from));
            }
        }
        assert!(!folder.is_empty() || edges.values().map(BTreeSet::len).sum::<usize>() > 40, "few edges: {edges:?}");
        let ring = ring(&edges);
        assert_eq!(ring, None, "modules of src/{} import each other in a ring", folder.join("/"));
    }
}

#[test]
fn pure_modules_do_no_io() {
    let allowed = |path: &str| NO_IO.iter().any(|allowed| path.starts_with(allowed));
    for file in files().iter().filter(|f| f.module.first().is_some_and(|top| PURE.contains(&top.as_str()))) {
        if READS_FILES.contains(&file.path.as_str()) {
            continue;
        }
        for impure in IMPURE {
            let first = impure.split("::").next().unwrap_or(impure);
            for path in paths(&file.text, &format!("{first}::")) {
                let path = format!("{first}::{}", path.join("::"));
                let named = path.strip_prefix(impure).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
                assert!(!named || allowed(&path), "src/{} is to be pure, and names {path}", file.path);
            }
        }
    }
}

#[test]
fn only_the_module_postgres_names_the_client_of_the_database() {
    for file in files().iter().filter(|f| f.module.first().is_none_or(|top| top != "postgres")) {
        assert!(!file.text.contains("tokio_postgres"), "src/{} names tokio_postgres", file.path);
    }
}

#[test]
fn a_ring_is_found_and_use_trees_are_read() {
    let edges =
        BTreeMap::from([("a", BTreeSet::from(["b"])), ("b", BTreeSet::from(["c", "d"])), ("d", BTreeSet::from(["b"]))]);
    assert_eq!(ring(&edges), Some(vec!["b", "d", "b"]));
    let text = "use crate::a::{self, b::{C, d}, e as f};\ncrate::g::h();\nuse xcrate::no;";
    let found: Vec<String> = paths(text, "crate::").iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["a::b::C", "a::b::d", "a::e", "a::self", "g::h"]);
    let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    use crate::x;\n}\n#[cfg(test)]\nmod model;\n// crate::y\nfn b() {}\n";
    assert_eq!(without_tests(text), "fn a() {}\nfn b() {}\n");
}
