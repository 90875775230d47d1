//! What `check` has to say, for people; the same as JSON comes from the fields.

use std::fmt;

use serde::Serialize;

use super::plan::Plan;
use super::sample::Sample;
use crate::commands::text_table::{WIDTH, visible};

/// Characters of a label that are shown.
const VALUE: usize = 58;

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// True if the exporter's numbers would be right: there are no problems.
    pub good: bool,
    /// Where the database is, without the password.
    pub database: String,
    /// The server's version.
    pub server: String,
    /// True if it is a standby.
    pub standby: bool,
    /// Difference of the clocks, database less exporter.
    pub clock: Option<Clock>,
    /// One for each source.
    pub sources: Vec<Line>,
    /// Things that make numbers wrong or absent, with what to do.
    pub problems: Vec<String>,
    /// Things worth knowing.
    pub warnings: Vec<String>,
}

/// A difference of clocks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Clock {
    /// How far the database's clock is ahead, in seconds.
    pub ahead_seconds: f64,
    /// How wrong that can be, in seconds: half of the time that the question took.
    pub uncertainty_seconds: f64,
}

/// One source.
#[derive(Debug, Default, Serialize)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// True if its statement works.
    pub good: bool,
    /// About how many rows there are, as the planner sees it.
    pub rows_estimated: Option<i64>,
    /// How many columns the SELECT has.
    pub columns: usize,
    /// How many metrics are made of them.
    pub metrics: usize,
    /// How the newest rows are read.
    pub plan: Option<Plan>,
    /// What the newest rows hold.
    pub sample: Option<Sample>,
}

impl Report {
    /// The same for programs.
    pub fn to_json(&self) -> String {
        // Strings, numbers and lists of them: nothing that JSON could refuse.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "database  {}", self.database)?;
        if !self.server.is_empty() {
            let standby = if self.standby { ", a standby" } else { "" };
            writeln!(f, "server    PostgreSQL {}{standby}", self.server)?;
        }
        if let Some(Clock { ahead_seconds, uncertainty_seconds }) = self.clock {
            writeln!(
                f,
                "clock     {ahead_seconds:+.3} s from this machine's, give or take {uncertainty_seconds:.3} s"
            )?;
        }
        if !self.sources.is_empty() {
            let width = self.sources.iter().map(|line| line.name.len()).max().unwrap_or_default().max(6);
            writeln!(f, "\n{:width$}  {:>14}  {:>7}  {:>7}", "source", "rows (about)", "columns", "metrics")?;
            for line in &self.sources {
                let rows = line.rows_estimated.map_or("-".to_owned(), |rows| rows.to_string());
                let state = if line.good { "ok" } else { "FAILS" };
                writeln!(f, "{:width$}  {rows:>14}  {:>7}  {:>7}  {state}", line.name, line.columns, line.metrics)?;
            }
        }
        for line in &self.sources {
            if let (Some(plan), Some(sample)) = (&line.plan, &line.sample) {
                details(f, &line.name, plan, sample)?;
            }
        }
        // What the server says stays on its line, to be searched for.
        let problem = |item: &String| item.lines().map(str::to_owned).collect();
        list(f, "problems", self.problems.iter().map(problem))?;
        list(f, "warnings", self.warnings.iter().map(|item| folded(item)))?;
        writeln!(f, "\n{}", if self.good { "All good." } else { "Not good: see the problems." })
    }
}

/// A list with a title, unless it is empty; each item in lines.
fn list(f: &mut fmt::Formatter<'_>, title: &str, items: impl Iterator<Item = Vec<String>>) -> fmt::Result {
    for (i, item) in items.enumerate() {
        if i == 0 {
            writeln!(f, "\n{title}")?;
        }
        for (i, line) in item.iter().enumerate() {
            writeln!(f, "  {} {line}", if i == 0 { '-' } else { ' ' })?;
        }
    }
    Ok(())
}

/// Text in lines that fit a terminal as items of a list; a statement to be pasted stays on its line.
fn folded(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for line in text.lines() {
        let is_statement = line.starts_with("-> GRANT ") || line.starts_with("-> REVOKE ");
        let mut words = line.split(' ');
        let mut folded = words.next().unwrap_or_default().to_owned();
        for word in words {
            if !is_statement && "  - ".len() + folded.chars().count() + 1 + word.chars().count() > WIDTH {
                all.push(std::mem::replace(&mut folded, word.to_owned()));
            } else {
                folded = format!("{folded} {word}");
            }
        }
        all.push(folded);
    }
    all
}

fn details(f: &mut fmt::Formatter<'_>, name: &str, plan: &Plan, sample: &Sample) -> fmt::Result {
    writeln!(f, "\n{name}, the newest {} rows", sample.rows)?;
    let (cost, took, pages) = (plan.cost, plan.milliseconds, plan.pages);
    writeln!(f, "  cost       {cost:.0} estimated, {took:.1} ms, {pages} pages")?;
    for (i, scan) in plan.scans.iter().enumerate() {
        let title = if i == 0 { "plan" } else { "" };
        writeln!(f, "  {title:<9}  {:>6}  rows of {}", scan.rows, scan.table)?;
        let using = scan.index.as_ref().map(|index| format!(" using {index}")).unwrap_or_default();
        writeln!(f, "  {:<9}  {:>6}  {}{using}", "", "", scan.scan)?;
    }
    for (i, (metric, series)) in sample.series.iter().enumerate() {
        writeln!(f, "  {:<9}  {series:>6}  {metric}", if i == 0 { "series" } else { "" })?;
    }
    for seen in &sample.labels {
        for (i, (value, rows)) in seen.values.iter().enumerate() {
            let (title, value) = (if i == 0 { &seen.label } else { "" }, visible(value));
            let short = if value.chars().count() > VALUE {
                format!("{}…", value.chars().take(VALUE - 1).collect::<String>())
            } else {
                value
            };
            writeln!(f, "  {title:<9}  {rows:>6}  {short}")?;
        }
        if seen.more > 0 {
            writeln!(f, "  {:<9}          and {} more", "", seen.more)?;
        }
    }
    for (i, rejected) in sample.rejected.iter().enumerate() {
        let ids: Vec<String> = rejected.examples.iter().take(4).map(ToString::to_string).collect();
        let (rows, column, reason) = (rejected.rows, &rejected.column, &rejected.reason);
        let title = if i == 0 { "rejected" } else { "" };
        writeln!(f, "  {title:<9}  {rows:>6}  {column} {reason}")?;
        writeln!(f, "  {:<9}  {:>6}  id {}", "", "", ids.join(", "))?;
    }
    Ok(())
}
