//! What happens in one made-up execution.

use std::fmt::Write;
use std::time::Duration;

use super::application::Application;
use super::random::Random;
use super::repository::Repository;
use crate::support::execution::literal;

/// Which of the two tables an execution is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Validation,
    Mitigation,
}

impl Kind {
    pub fn table(self) -> &'static str {
        match self {
            Self::Validation => "validation_executions",
            Self::Mitigation => "mitigation_executions",
        }
    }

    /// The columns that [`Story::row`] fills.
    pub fn columns(self) -> &'static str {
        match self {
            Self::Validation => {
                "repository_id, issue_number, commit_sha, status, data, error_message, \
                 started_at, completed_at, inserted_at, updated_at, \
                 validated, vulnerabilities_found"
            }
            Self::Mitigation => {
                "repository_id, issue_number, commit_sha, status, data, error_message, \
                 started_at, completed_at, inserted_at, updated_at, \
                 pr_url, pr_number, files_changed"
            }
        }
    }
}

/// SQL of the times in a row.
pub struct Times<'a> {
    pub started: &'a str,
    pub completed: &'a str,
    pub now: &'a str,
}

/// One execution from its first row to its last.
#[derive(Debug)]
pub struct Story {
    pub kind: Kind,
    pub repository: &'static Repository,
    /// `completed` or `failed`.
    pub status: &'static str,
    pub error_message: Option<&'static str>,
    pub took: Duration,
    /// Text of the JSON value.
    data: String,
    issue: u32,
    commit: u32,
    /// SQL of the columns that only this kind has.
    own_columns: String,
}

/// The fields of one `data` value, spelled in snake_case.
#[derive(Default)]
struct Data(Vec<(&'static str, String)>);

impl Data {
    fn put(&mut self, key: &'static str, value: impl ToString) {
        self.0.push((key, value.to_string()));
    }

    fn put_text(&mut self, key: &'static str, value: &str) {
        self.put(key, serde_json::Value::from(value));
    }

    /// Replaces a value by something that a client should not have sent.
    fn spoil(&mut self, key: &str, value: &str) {
        for field in self.0.iter_mut().filter(|field| field.0 == key) {
            field.1 = value.into();
        }
    }

    fn text(&self, camel_case: bool) -> String {
        let mut text = String::new();
        for (key, value) in &self.0 {
            let key = if camel_case { camel(key) } else { (*key).into() };
            let separator = if text.is_empty() { '{' } else { ',' };
            // Writing to a string cannot fail.
            let _ = write!(text, "{separator}\"{key}\": {value}");
        }
        text + "}"
    }
}

fn camel(key: &str) -> String {
    let mut words = key.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |text, word| text + &word[..1].to_uppercase() + &word[1..])
}

impl Story {
    /// Makes one up for `repository`.
    pub fn new(kind: Kind, repository: &'static Repository, application: Application, random: &mut Random) -> Self {
        let (mut data, own_columns, took) = match kind {
            Kind::Validation => validation(repository, application, random),
            Kind::Mitigation => mitigation(repository, random),
        };
        let mut story = Self {
            kind,
            repository,
            status: "completed",
            error_message: None,
            took,
            data: String::new(),
            issue: random.between(1, 900),
            commit: random.between(0, u32::MAX - 1),
            own_columns,
        };
        match random.between(1, 100) {
            1..=4 => {
                story.status = "failed";
                story.took = Duration::from_secs(300);
                // Clients tell a timeout in one of two ways.
                if random.chance(50.0) {
                    data.put_text("status", "timeout");
                } else {
                    let texts = ["Timed out after 300 s", "runner time-out", "job timeout exceeded"];
                    story.error_message = Some(random.pick(&texts));
                }
            }
            5..=12 => {
                story.status = "failed";
                let texts = ["tests do not compile", "checkout failed: not found", "out of memory"];
                story.error_message = Some(random.pick(&texts));
            }
            _ if kind == Kind::Mitigation => {
                // Nearly half of them need another turn, again and again.
                let turns = 1 + (random.unit().max(1e-9).ln() / 0.45_f64.ln()) as u32;
                data.put("turns", turns.min(application.max_turns));
                if turns > application.max_turns {
                    story.status = "failed";
                    story.error_message = Some("gave up after the most turns");
                }
            }
            _ => {}
        }
        let camel_case = random.chance(15.0);
        story.data = data.text(camel_case);
        story
    }

    /// Its row as a VALUES tuple, in the order of [`Kind::columns`];
    /// `repository` is SQL of the repository's id.
    pub fn row(&self, repository: &str, status: &str, times: &Times<'_>) -> String {
        format!(
            "({repository}, {}, '{:08x}', '{status}', {}::jsonb, {}, {}, {}, {now}, {now}, {})",
            self.issue,
            self.commit,
            literal(&self.data),
            self.error(status),
            times.started,
            times.completed,
            self.own_columns,
            now = times.now,
        )
    }

    /// SQL of its error message once it has `status`.
    pub fn error(&self, status: &str) -> String {
        match self.error_message {
            Some(text) if status == "failed" => literal(text),
            _ => "NULL".into(),
        }
    }
}

/// `data`, own columns and duration of a validation.
fn validation(repository: &Repository, application: Application, random: &mut Random) -> (Data, String, Duration) {
    let took = Duration::from_millis((700.0 * 150_f64.powf(random.unit().powf(1.6))) as u64);
    let mut data = Data::default();
    // The newest clients send hardly anything.
    if random.chance(8.0) {
        let validated = random.chance(80.0);
        data.put("validated", validated);
        if validated {
            data.put_text("branchName", "rsolv/validate/42");
            data.put_text("testPath", "test/security.test");
        } else {
            data.put_text("falsePositiveReason", "vendor file");
        }
        return (data, format!("{validated}, NULL"), took);
    }
    let found = random.between(0, 4);
    let generated = random.between(1, 8);
    let failed = if random.chance(40.0) { random.between(0, generated) } else { 0 };
    describe(repository, &mut data, random);
    data.put("validated", found > 0);
    if application.executable_tests {
        data.put("tests_generated", generated);
        data.put("tests_passed", generated - failed);
        data.put("tests_failed", failed);
    }
    let kinds = ["sql_injection", "xss", "path_traversal", "ssrf"];
    let vulnerabilities: Vec<_> = (0..found).map(|_| serde_json::json!({"type": random.pick(&kinds)})).collect();
    data.put("vulnerabilities", serde_json::Value::from(vulnerabilities));
    match random.between(1, 100) {
        1..=2 => data.spoil("tests_generated", random.pick(&["\"many\"", "-1", "2.5", "[3]", "1e400"])),
        3..=6 => data.spoil("tests_generated", &format!("\" {generated} \"")), // a numeric string will do
        _ => {}
    }
    // The column is the count where it is set, else the array's length.
    let column = if random.chance(70.0) { found.to_string() } else { "NULL".into() };
    (data, format!("{}, {column}", found > 0), took)
}

/// `data`, own columns and duration of a mitigation.
fn mitigation(repository: &Repository, random: &mut Random) -> (Data, String, Duration) {
    let took = Duration::from_millis((12_000.0 * 50_f64.powf(random.unit().powf(1.4))) as u64);
    let number = random.between(1, 4000);
    let url = format!("https://github.com/{}/pull/{number}", repository.full_path);
    let mut data = Data::default();
    if random.chance(8.0) {
        data.put("fixed", true);
        data.put_text("prUrl", &url);
        data.put_text("fixCommit", "9f2c1ab");
        return (data, "NULL, NULL, NULL".into(), took);
    }
    describe(repository, &mut data, random);
    // Three dice: most scores lie around 80, a few far below.
    let trust = 55.0 + 15.0 * (random.unit() + random.unit() + random.unit());
    data.put("trust_score", (trust * 2.0).round() / 2.0);
    let files = random.between(1, 9);
    data.put("files_changed", files);
    match random.between(1, 100) {
        1..=2 => data.spoil("trust_score", random.pick(&["\"high\"", "[85]", "1e400", "-3", "250"])),
        3..=6 => data.spoil("trust_score", "\"85\""),
        _ => {}
    }
    let columns = match random.between(1, 10) {
        1..=2 => format!("NULL, NULL, {files}"), // no pull request came of it
        3 => {
            data.put_text("pr_url", &url);
            format!("NULL, NULL, {files}")
        }
        _ => format!("{}, {number}, {files}", literal(&url)),
    };
    (data, columns, took)
}

fn describe(repository: &Repository, data: &mut Data, random: &mut Random) {
    if random.chance(98.0) {
        data.put_text("language", repository.language);
        data.put_text("framework", repository.framework);
    }
}
