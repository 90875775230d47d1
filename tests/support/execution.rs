//! Rows of the platform's two execution tables.

use std::fmt::Display;
use std::time::Duration;

/// A row of `validation_executions` to insert.
#[derive(Clone, Debug)]
pub struct Validation {
    pub repo: i64,
    pub status: &'static str,
    pub vulnerabilities_found: Option<i32>,
    /// The text of a JSON value, which need not be one that Rust can hold.
    pub data: String,
    /// SQL of a UTC timestamp; so are the two below.
    pub started_at: String,
    pub completed_at: String,
    pub updated_at: String,
    pub error_message: Option<String>,
}

/// A row of `mitigation_executions` to insert.
#[derive(Clone, Debug)]
pub struct Mitigation {
    pub repo: i64,
    pub status: &'static str,
    pub pr_url: Option<String>,
    pub pr_number: Option<i32>,
    pub files_changed: Option<i32>,
    /// The text of a JSON value, which need not be one that Rust can hold.
    pub data: String,
    /// SQL of a UTC timestamp; so are the two below.
    pub started_at: String,
    pub completed_at: String,
    pub updated_at: String,
    pub error_message: Option<String>,
}

/// SQL of the current time as the platform stores it.
pub const NOW: &str = "timezone('UTC', now())";

impl Validation {
    /// One that was completed just now and took five seconds.
    pub fn completed(repo: i64, data: impl Display) -> Self {
        Self {
            repo,
            status: "completed",
            vulnerabilities_found: None,
            data: data.to_string(),
            started_at: before_now(Duration::from_secs(5)),
            completed_at: NOW.into(),
            updated_at: NOW.into(),
            error_message: None,
        }
    }

    /// One that has not finished: `pending` or `running`.
    pub fn open(repo: i64, status: &'static str, data: impl Display) -> Self {
        Self { status, completed_at: "NULL".into(), ..Self::completed(repo, data) }
    }

    /// The same, started this long before now.
    #[must_use]
    pub fn took(self, duration: Duration) -> Self {
        Self { started_at: before_now(duration), ..self }
    }
}

impl Mitigation {
    /// One that was completed just now and took five seconds.
    pub fn completed(repo: i64, data: impl Display) -> Self {
        Self {
            repo,
            status: "completed",
            pr_url: None,
            pr_number: None,
            files_changed: None,
            data: data.to_string(),
            started_at: before_now(Duration::from_secs(5)),
            completed_at: NOW.into(),
            updated_at: NOW.into(),
            error_message: None,
        }
    }

    /// One that has not finished: `pending` or `running`.
    pub fn open(repo: i64, status: &'static str, data: impl Display) -> Self {
        Self { status, completed_at: "NULL".into(), ..Self::completed(repo, data) }
    }

    /// The same, started this long before now.
    #[must_use]
    pub fn took(self, duration: Duration) -> Self {
        Self { started_at: before_now(duration), ..self }
    }
}

impl Validation {
    /// The statement that inserts the row under an id of one's own choice.
    pub fn with_id(self, id: &str) -> String {
        let insert = String::from(self).replacen("_executions (", "_executions (id, ", 1);
        insert.replacen("VALUES (", &format!("VALUES ({id}, "), 1)
    }
}

impl From<Validation> for String {
    fn from(row: Validation) -> Self {
        format!(
            "INSERT INTO validation_executions (repository_id, issue_number, commit_sha, status,
               vulnerabilities_found, data, started_at, completed_at, error_message,
               inserted_at, updated_at)
             VALUES ({}, 1, 'c0ffee', '{}', {}, {}::jsonb, {}, {}, {}, {NOW}, {}) RETURNING id",
            row.repo,
            row.status,
            number(row.vulnerabilities_found),
            literal(&row.data),
            row.started_at,
            row.completed_at,
            nullable(row.error_message),
            row.updated_at,
        )
    }
}

impl From<Mitigation> for String {
    fn from(row: Mitigation) -> Self {
        format!(
            "INSERT INTO mitigation_executions (repository_id, issue_number, commit_sha, status,
               pr_url, pr_number, files_changed, data, started_at, completed_at, error_message,
               inserted_at, updated_at)
             VALUES ({}, 1, 'c0ffee', '{}', {}, {}, {}, {}::jsonb, {}, {}, {}, {NOW}, {})
             RETURNING id",
            row.repo,
            row.status,
            nullable(row.pr_url),
            number(row.pr_number),
            number(row.files_changed),
            literal(&row.data),
            row.started_at,
            row.completed_at,
            nullable(row.error_message),
            row.updated_at,
        )
    }
}

/// SQL of the time `duration` ago.
pub fn before_now(duration: Duration) -> String {
    // PostgreSQL 13 has no more than 2^31 microseconds.
    format!("{NOW} - interval '{}.{:06} seconds'", duration.as_secs(), duration.subsec_micros())
}

/// `text` as an SQL string, whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn nullable(text: Option<String>) -> String {
    text.map_or_else(|| "NULL".into(), |text| literal(&text))
}

fn number(number: Option<i32>) -> String {
    number.map_or_else(|| "NULL".into(), |number| number.to_string())
}
