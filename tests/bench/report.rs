//! What is printed: tables in Markdown, which a terminal of 80 columns shows as well.

use std::fmt;

use crate::support::cluster::Cluster;
use crate::support::failure::Result;

/// What a ratio should be.
#[derive(Clone, Copy)]
pub enum Goal {
    None,
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    fn is_met(self, ratio: f64) -> Option<bool> {
        match self {
            Self::None => None,
            Self::AtMost(bound) => Some(ratio <= bound),
            Self::AtLeast(bound) => Some(ratio >= bound),
        }
    }
}

/// Tables of what was measured, and where.
pub struct Report {
    machine: String,
    /// Each with its lines: what, ours, the other's, the ratio, the goal.
    sections: Vec<(String, Vec<[String; 5]>)>,
    notes: Vec<String>,
    goals: usize,
    met: usize,
}

impl Report {
    /// An empty one, of this machine as it is now.
    pub fn new(cluster: &Cluster, settings: &str) -> Result<Self> {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
        let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
        let meminfo = std::fs::read_to_string("/proc/meminfo")?;
        let kilobytes: f64 = meminfo.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or_default();
        let load = std::fs::read_to_string("/proc/loadavg")?;
        let load = load.split_whitespace().next().unwrap_or_default();
        let version = cluster.command("postgres").arg("--version").output()?;
        let version = String::from_utf8_lossy(&version.stdout).trim().replace("postgres (PostgreSQL)", "PostgreSQL");
        let machine = format!(
            "{} cores of {}, {:.0} GiB, load {load} at the start.\n{}, {settings}.",
            std::thread::available_parallelism()?,
            model.map_or("an unknown processor", |m| m.1),
            kilobytes / 1024.0 / 1024.0,
            version.split(" (").next().unwrap_or_default()
        );
        Ok(Self { machine, sections: Vec::new(), notes: Vec::new(), goals: 0, met: 0 })
    }

    /// Begins a table.
    pub fn section(&mut self, title: impl Into<String>) {
        let title = title.into();
        eprintln!("{title}");
        self.sections.push((title, Vec::new()));
    }

    /// Adds a line without a goal.
    pub fn line(&mut self, what: impl Into<String>, ours: impl Into<String>, other: &str, ratio: Option<f64>) {
        self.push([what.into(), ours.into(), other.into(), ratio.map_or(String::new(), shown), String::new()]);
    }

    /// Adds a line with a goal for the ratio.
    pub fn compare(&mut self, what: &str, ours: String, other: String, ratio: f64, goal: Goal) {
        let bound = match goal {
            Goal::None => String::new(),
            Goal::AtMost(bound) => format!("≤ {bound}"),
            Goal::AtLeast(bound) => format!("≥ {bound}"),
        };
        let mark = goal.is_met(ratio).map_or("", |is_met| if is_met { " ✓" } else { " ✗" });
        self.goals += usize::from(!mark.is_empty());
        self.met += usize::from(mark == " ✓");
        self.push([what.to_owned(), ours, other, shown(ratio), format!("{bound}{mark}")]);
    }

    /// Adds a line with a goal, if there is one, for what was measured itself; `more` says what belongs to it.
    pub fn bound(&mut self, what: &str, value: f64, unit: &str, more: &str, most: Option<f64>) {
        let ours = if value < 1.0 { format!("{value:.3}") } else { format!("{value:.1}") };
        let goal = most.map_or(String::new(), |most| {
            self.goals += 1;
            self.met += usize::from(value <= most);
            format!("≤ {most} {unit} {}", if value <= most { '✓' } else { '✗' })
        });
        self.push([what.to_owned(), format!("{ours} {unit}"), more.to_owned(), String::new(), goal]);
    }

    /// Adds what a reader has to know, once.
    pub fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.notes.contains(&text) {
            eprintln!("  {text}");
            self.notes.push(text);
        }
    }

    fn push(&mut self, line: [String; 5]) {
        eprintln!("    {}", line.join(" | "));
        if self.sections.is_empty() {
            self.sections.push(("Measured".to_owned(), Vec::new()));
        }
        if let Some((_, lines)) = self.sections.last_mut() {
            lines.push(line);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}\nMedians; ✓ and ✗ say whether a goal was met: {} of {} were.",
            self.machine, self.met, self.goals
        )?;
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        let head = ["measured", "ours", "other", "ratio", "goal"].map(str::to_owned);
        for (title, lines) in self.sections.iter().filter(|(_, lines)| !lines.is_empty()) {
            let width = |i: usize| lines.iter().chain([&head]).map(|line| line[i].chars().count()).max().unwrap_or(0);
            let widths: [usize; 5] = std::array::from_fn(width);
            let row = |f: &mut fmt::Formatter<'_>, line: &[String; 5]| {
                let [what, ours, other, ratio, goal] = line;
                let [a, b, c, d, e] = widths;
                writeln!(f, "| {what:a$} | {ours:>b$} | {other:>c$} | {ratio:>d$} | {goal:e$} |")
            };
            writeln!(f, "\n**{title}**\n")?;
            row(f, &head)?;
            let [a, b, c, d, e] = widths.map(|width| "-".repeat(width - 1));
            writeln!(f, "| {a}- | {b}: | {c}: | {d}: | {e}- |")?;
            for line in lines {
                row(f, line)?;
            }
        }
        Ok(())
    }
}

/// A ratio with the digits that mean something.
fn shown(ratio: f64) -> String {
    if ratio < 20.0 { format!("{ratio:.2}") } else { format!("{ratio:.0}") }
}

/// Milliseconds with three digits or so.
pub fn ms(milliseconds: f64) -> String {
    match milliseconds {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 100.0 => format!("{ms:.1} ms"),
        ms => format!("{ms:.0} ms"),
    }
}

/// The value in the middle, or the mean of the two there.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// `1000000` as `1M`, `2500000` as `2.5M`.
pub fn short(rows: u64) -> String {
    match rows {
        0 => "0".to_owned(),
        n if n % 1_000_000 == 0 => format!("{}M", n / 1_000_000),
        n if n > 1_000_000 && n % 100_000 == 0 => format!("{:.1}M", n as f64 / 1e6),
        n if n % 1_000 == 0 => format!("{}k", n / 1_000),
        n => n.to_string(),
    }
}
