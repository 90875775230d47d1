//! The rules on values, said once more in Rust.

use std::fmt;

use super::number::valid;
use crate::support::truth::{Counted, Table};

/// Every key that means something in `data`, and one that does not.
pub const KEYS: [&str; 16] = [
    "language",
    "framework",
    "tests_generated",
    "testsGenerated",
    "tests_passed",
    "testsPassed",
    "tests_failed",
    "testsFailed",
    "vulnerabilities",
    "trust_score",
    "trustScore",
    "pr_url",
    "prUrl",
    "pr_number",
    "prNumber",
    "status",
];

/// Times as SQL and in microseconds since 1970; without a number, NULL; the infinite ones as i128's ends.
pub const TIMES: [(&str, Option<i128>); 8] = [
    ("NULL", None),
    ("'-infinity'", Some(i128::MIN)),
    ("'infinity'", Some(i128::MAX)),
    ("'4713-01-01 00:00:00 BC'", Some(-210_863_520_000_000_000)),
    ("'294276-12-31 23:59:59.999999'", Some(9_224_318_015_999_999_999)),
    ("'2026-01-01 00:00:00'", Some(1_767_225_600_000_000)),
    ("'2026-01-01 00:00:05'", Some(1_767_225_605_000_000)),
    ("'2026-01-01 00:01:00.000125'", Some(1_767_225_660_000_125)),
];

/// JSON whose numbers are text, so that they can be ones that no machine number holds.
#[derive(Clone, Debug)]
pub enum Json {
    Null,
    Bool(bool),
    Number(String),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let join = |items: Vec<String>| items.join(",");
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(text) => f.write_str(text),
            Self::String(text) => f.write_str(&quoted(text)),
            Self::Array(items) => write!(f, "[{}]", join(items.iter().map(ToString::to_string).collect())),
            Self::Object(map) => {
                write!(f, "{{{}}}", join(map.iter().map(|(key, value)| format!("{}:{value}", quoted(key))).collect()))
            }
        }
    }
}

impl Json {
    fn get(&self, wanted: &str) -> Option<&Self> {
        let Self::Object(map) = self else { return None };
        map.iter().find(|(key, _)| key == wanted).map(|(_, value)| value)
    }

    /// The first spelling unless it is missing or null, else the second.
    fn spelled(&self, spellings: [&str; 2]) -> Option<&Self> {
        let there = |key| self.get(key).filter(|value| !matches!(value, Self::Null));
        there(spellings[0]).or_else(|| there(spellings[1]))
    }

    fn text(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }
}

/// A row of either table.
#[derive(Clone, Debug)]
pub struct Execution {
    pub table: Table,
    pub repo: String,
    pub status: &'static str,
    pub data: Json,
    /// `vulnerabilities_found` or `pr_number`.
    pub number: Option<i32>,
    pub pr_url: Option<String>,
    pub error: Option<&'static str>,
    /// Positions in [`TIMES`].
    pub started: usize,
    pub completed: usize,
}

impl Execution {
    /// How it is counted, if it has finished.
    pub fn counted(&self) -> Option<Counted> {
        if matches!(self.status, "pending" | "running") {
            return None;
        }
        let text = |key| self.data.get(key).and_then(Json::text);
        let labels =
            [label(Some(&self.repo), "unknown"), label(text("language"), "unknown"), label(text("framework"), "none")];
        let mut counted = Counted::new(self.table, ["", "", ""]);
        counted.labels = labels;
        let words = self.error.unwrap_or_default().to_lowercase();
        let timed_out = ["timeout", "timedout", "time out", "timed out", "time-out", "timed-out"];
        let timeout = text("status") == Some("timeout") || timed_out.iter().any(|phrase| words.contains(phrase));
        counted.status = if self.status == "failed" && timeout { "timeout" } else { self.status }.into();
        counted.duration_ms = self.duration(&mut counted.rejected);
        match self.table {
            Table::Validation => self.validation(&mut counted),
            Table::Mitigation => self.mitigation(&mut counted),
        }
        Some(counted)
    }

    fn duration(&self, rejected: &mut Vec<&'static str>) -> Option<f64> {
        let (started, completed) = (TIMES[self.started].1?, TIMES[self.completed].1?);
        let finite = |time| time != i128::MIN && time != i128::MAX;
        if finite(started) && finite(completed) && completed >= started {
            return Some((completed - started) as f64 / 1000.0);
        }
        rejected.push("duration_ms");
        None
    }

    fn validation(&self, counted: &mut Counted) {
        let columns =
            [["tests_generated", "testsGenerated"], ["tests_passed", "testsPassed"], ["tests_failed", "testsFailed"]];
        for (sum, spellings) in counted.sums.iter_mut().zip(columns) {
            *sum = value(self.data.spelled(spellings), 1_000_000_000, true, spellings[0], &mut counted.rejected);
        }
        let found = match (self.number, self.data.get("vulnerabilities")) {
            (Some(number), _) => Some(Json::Number(number.to_string())),
            (None, Some(Json::Array(items))) => Some(Json::Number(items.len().to_string())),
            (None, None | Some(Json::Null)) => None,
            (None, Some(Json::String(text))) if text.is_empty() => None,
            // Neither a column nor an array: no number can come of it.
            (None, Some(_)) => Some(Json::Bool(false)),
        };
        let column = "vulnerabilities_found";
        counted.sums[3] = value(found.as_ref(), 1_000_000_000, true, column, &mut counted.rejected);
    }

    fn mitigation(&self, counted: &mut Counted) {
        let score = self.data.spelled(["trust_score", "trustScore"]);
        counted.trust_score = value(score, 100, false, "trust_score", &mut counted.rejected);
        let filled = |text: &str| !text.trim_matches(' ').is_empty();
        let url = self.data.spelled(["pr_url", "prUrl"]).and_then(Json::text).is_some_and(filled);
        let number = match self.data.spelled(["pr_number", "prNumber"]) {
            Some(Json::Number(_)) => true,
            Some(Json::String(text)) => filled(text),
            _ => false,
        };
        counted.pr_created = url || number || self.number.is_some() || self.pr_url.as_deref().is_some_and(filled);
    }
}

fn value(
    json: Option<&Json>,
    max: u64,
    whole: bool,
    column: &'static str,
    rejected: &mut Vec<&'static str>,
) -> Option<f64> {
    let number = match json? {
        Json::String(text) if text.is_empty() => return None,
        Json::Number(text) => valid(text, max, whole),
        Json::String(text) => valid(text.trim_matches(SPACE), max, whole),
        _ => None,
    };
    if number.is_none() {
        rejected.push(column);
    }
    number
}

const SPACE: [char; 6] = [' ', '\t', '\n', '\r', '\u{c}', '\u{b}'];

/// Trimmed, cut to 200 bytes between two characters, and something when nothing is left.
fn label(text: Option<&str>, missing: &str) -> String {
    let trimmed = text.unwrap_or_default().trim_matches(SPACE);
    let mut end = trimmed.len().min(200);
    while !trimmed.is_char_boundary(end) {
        end -= 1;
    }
    if trimmed.is_empty() { missing.into() } else { trimmed[..end].into() }
}
