//! Printed text without what differs from run to run and from machine to machine, to compare with golden files.

use super::database::Database;

/// What `check` prints, without what depends on the moment, the machine and the server's version.
pub fn check(text: &str) -> String {
    let mut in_plan = false;
    let lines = text.lines().filter_map(|line| {
        let title = line.get(2..11).unwrap_or_default().trim_end();
        in_plan = title == "plan" || (in_plan && title.is_empty());
        match line.split_whitespace().next() {
            _ if in_plan => (title == "plan").then(|| "  plan       …\n".to_owned()),
            Some(word @ ("clock" | "cost")) => Some(format!("  {word:<9}  …\n")),
            _ => Some(format!("{line}\n")),
        }
    });
    lines.collect()
}

/// The same on a database, without its address, its name and its version.
pub fn check_on(db: &Database<'_>, bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace(&format!("127.0.0.1:{}", db.cluster().port()), "HOST:PORT");
    let text = text.replace(&format!("reader_{}", db.name), "reader").replace(&db.name, "DATABASE");
    let text = check(&text);
    let lines = text.lines().map(|line| match line.split_once("PostgreSQL 1") {
        Some((before, _)) => format!("{before}PostgreSQL …\n"),
        None => format!("{line}\n"),
    });
    lines.collect()
}

/// An exposition without the values that differ from run to run and from machine to machine.
pub fn exposition(exposition: &str) -> String {
    let varies = [
        "process_",
        "rsolv_exporter_build_info",
        "rsolv_exporter_last_",
        "rsolv_exporter_source_last_",
        "rsolv_validation_oldest_",
    ];
    let lines = exposition.lines().map(|line| match line.split_once(' ') {
        Some((series, _)) if varies.iter().any(|prefix| series.starts_with(prefix)) => {
            format!("{} …\n", series.split('{').next().unwrap_or(series))
        }
        _ => format!("{line}\n"),
    });
    lines.collect()
}
