//! The table that is printed.

use std::fmt;
use std::process::Command;

use crate::support::cluster::Cluster;
use crate::support::failure::Result;

/// Lines of what was measured, and where.
pub struct Report {
    machine: String,
    lines: Vec<[String; 4]>,
}

impl Report {
    pub fn new(cluster: &Cluster, repositories: u64) -> Result<Self> {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
        let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
        let meminfo = std::fs::read_to_string("/proc/meminfo")?;
        let kilobytes: u64 = meminfo.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or_default();
        let load = std::fs::read_to_string("/proc/loadavg")?;
        let load = load.split_whitespace().next().unwrap_or_default();
        let version = cluster.command("postgres").arg("--version").output()?;
        let version = String::from_utf8_lossy(&version.stdout).trim().replace("postgres (PostgreSQL)", "PostgreSQL");
        let machine = format!(
            "{} cores of {}, {} GiB, load {load} at the start\n{}, shared_buffers 512 MB, fsync off; {repositories} repositories",
            std::thread::available_parallelism()?,
            model.map_or("an unknown processor", |m| m.1),
            kilobytes / 1024 / 1024,
            version.split(" (").next().unwrap_or_default()
        );
        Ok(Self { machine, lines: Vec::new() })
    }

    /// Adds a line: what, ours, the other's, the ratio.
    pub fn line(&mut self, what: impl Into<String>, ours: impl Into<String>, other: &str, ratio: Option<f64>) {
        let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
        let line = [what.into(), ours.into(), other.into(), ratio];
        eprintln!("    {}", line.join(" | "));
        self.lines.push(line);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.machine)?;
        let head = ["measured (medians)", "ours", "other", "ratio"].map(str::to_owned);
        let rule = ["---"; 4].map(str::to_owned);
        for line in [&head, &rule].into_iter().chain(&self.lines) {
            writeln!(f, "| {} |", line.join(" | "))?;
        }
        Ok(())
    }
}

/// The value in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// `1000000` as `1M`.
pub fn short(rows: u64) -> String {
    match rows {
        n if n % 1_000_000 == 0 => format!("{}M", n / 1_000_000),
        n if n % 1_000 == 0 => format!("{}k", n / 1_000),
        n => n.to_string(),
    }
}

/// Where a program is, if it is installed.
pub fn installed(program: &str) -> bool {
    Command::new("sh").args(["-c", &format!("command -v {program} >/dev/null")]).status().is_ok_and(|s| s.success())
}
