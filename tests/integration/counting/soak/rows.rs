//! Executions with every spelling of their values, each with how it has to be counted.

use serde_json::{Value, json};

use crate::random::Random;
use crate::support::execution::literal;
use crate::support::truth::{Counted, Table};

const LANGUAGES: [&str; 3] = ["elixir", "javascript", "ruby"];
const FRAMEWORKS: [&str; 2] = ["express", "none"];

/// An execution that has finished or will.
#[derive(Clone, Debug)]
pub struct Row {
    pub repository_id: i64,
    pub counted: Counted,
    /// `status`, `data`, `error_message`, the extra column, `started_at`, `completed_at` as SQL.
    pub finished: String,
}

/// The column of a table besides those that both have.
pub fn extra(table: Table) -> &'static str {
    match table {
        Table::Validation => "vulnerabilities_found",
        Table::Mitigation => "pr_number",
    }
}

impl Row {
    /// One with random values. Durations, scores and numbers are exact in binary, so that sums are exact too.
    pub fn new(random: &mut Random, table: Table, (repository_id, repo): (i64, &str)) -> Self {
        let (language, framework) = (random.pick(&LANGUAGES), random.pick(&FRAMEWORKS));
        let mut counted = Counted::new(table, [repo, language, framework]);
        let mut data = json!({ "language": language });
        if framework != "none" {
            data["framework"] = json!(format!(" {framework}\t"));
        }
        let extra = match table {
            Table::Validation => validation(random, &mut counted, &mut data),
            Table::Mitigation => mitigation(random, &mut counted, &mut data),
        };
        let (status, error) = match random.between(0, 9) {
            0 => ("failed", "'ran out of memory'"),
            1 => ("failed", "'Timed out after 30 s'"),
            2 => {
                data["status"] = json!("timeout");
                ("failed", "NULL")
            }
            _ => ("completed", "NULL"),
        };
        let timeout = error.contains("Timed") || data["status"] == "timeout";
        counted.status = if timeout { "timeout" } else { status }.into();
        let bounds = [0, 1000, 5000, 30_000, 600_000];
        let ms = if random.chance(20.0) { bounds[random.index(5)] } else { random.between(0, 700_000) };
        counted.duration_ms = Some(f64::from(ms));
        let data = literal(&data.to_string());
        let finished = format!(
            "'{status}', {data}::jsonb, {error}, {extra}, \
             timezone('UTC', now()) - interval '{ms} milliseconds', timezone('UTC', now())"
        );
        Self { repository_id, counted, finished }
    }

    /// `INSERT … RETURNING id` of several rows that have finished, all of one table.
    pub fn insert(rows: &[Self]) -> String {
        let table = rows[0].counted.table;
        let values = rows.iter().map(|row| {
            format!("({}, 1, 'c0ffee', timezone('UTC', now()), now(), {})", row.repository_id, row.finished)
        });
        format!(
            "INSERT INTO {} (repository_id, issue_number, commit_sha, inserted_at, updated_at,
               status, data, error_message, {}, started_at, completed_at) VALUES {} RETURNING id",
            table.name(),
            extra(table),
            values.collect::<Vec<_>>().join(",\n"),
        )
    }

    /// The same of one row with an id of its own (an SQL expression).
    pub fn insert_as(&self, id: &str) -> String {
        let insert = Self::insert(std::slice::from_ref(self));
        insert.replacen("(repository_id", "(id, repository_id", 1).replacen("VALUES (", &format!("VALUES ({id}, "), 1)
    }

    /// Lets the row `id`, which is open, finish.
    pub fn finish(&self, id: i64) -> String {
        let table = self.counted.table;
        format!(
            "UPDATE {} SET (status, data, error_message, {}, started_at, completed_at) = ROW ({}) WHERE id = {id}",
            table.name(),
            extra(table),
            self.finished,
        )
    }
}

/// The key in one of its two spellings, the other one sometimes null.
fn put(random: &mut Random, data: &mut Value, (snake, camel): (&str, &str), value: Value) {
    if random.chance(30.0) {
        data[camel] = value;
        if random.chance(30.0) {
            data[snake] = Value::Null;
        }
    } else {
        data[snake] = value;
        if random.chance(10.0) {
            data[camel] = json!("not looked at");
        }
    }
}

fn validation(random: &mut Random, counted: &mut Counted, data: &mut Value) -> String {
    if random.chance(70.0) {
        let (passed, failed) = (random.between(0, 9), random.between(0, 9));
        let spellings =
            [("tests_generated", "testsGenerated"), ("tests_passed", "testsPassed"), ("tests_failed", "testsFailed")];
        for (i, (spelling, number)) in spellings.into_iter().zip([passed + failed, passed, failed]).enumerate() {
            let value = if random.chance(20.0) { json!(format!(" {number} ")) } else { json!(number) };
            put(random, data, spelling, value);
            counted.sums[i] = Some(f64::from(number));
        }
    }
    let found = random.between(0, 4);
    match random.between(0, 4) {
        0 => "NULL".into(),
        1 => {
            data["vulnerabilities"] = json!(vec![json!({"type": "xss"}); found as usize]);
            counted.sums[3] = Some(f64::from(found));
            "NULL".into()
        }
        2 => {
            counted.rejected.push("vulnerabilities_found");
            "-1".into()
        }
        _ => {
            counted.sums[3] = Some(f64::from(found));
            found.to_string()
        }
    }
}

fn mitigation(random: &mut Random, counted: &mut Counted, data: &mut Value) -> String {
    let bad = [json!("high"), json!([85]), json!(-3), json!(250), json!(true)];
    let spelling = ("trust_score", "trustScore");
    if random.chance(10.0) {
        let value = bad[random.index(bad.len())].clone();
        put(random, data, spelling, value);
        counted.rejected.push("trust_score");
    } else if random.chance(90.0) {
        let score = f64::from(random.between(0, 200)) / 2.0;
        let value = if random.chance(20.0) { json!(score.to_string()) } else { json!(score) };
        put(random, data, spelling, value);
        counted.trust_score = Some(score);
    }
    counted.pr_created = random.chance(50.0);
    match (counted.pr_created, random.chance(50.0)) {
        (true, true) => return "42".into(),
        (true, false) => put(random, data, ("pr_url", "prUrl"), json!("https://example.org/pull/1")),
        (false, _) => {}
    }
    "NULL".into()
}
