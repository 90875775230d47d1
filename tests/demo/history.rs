//! Some months of executions that ended before the demo began.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use tokio_postgres::Client;

use super::application::Application;
use super::progress::Progress;
use super::random::Random;
use super::repository;
use super::story::{Kind, Story, Times};
use crate::support::database::add_repository;
use crate::support::failure::{Failure, Result};

const DAYS: u32 = 120;
const VALIDATIONS: usize = 20_000;
const MITIGATIONS: usize = 12_000;
/// Rows per INSERT.
const BATCH: usize = 500;
/// Validations whose worker died: they stay `running` for ever.
const ABANDONED: usize = 3;

/// Writes the history, returns how many executions in it have finished.
pub async fn write(client: &Client, application: Application) -> Result<u64> {
    let mut random = Random::new(1);
    let mut ids = HashMap::new();
    for repository in repository::ESTABLISHED {
        ids.insert(repository.full_path, add_repository(client, repository.full_path).await?);
    }
    let progress = Progress::start("writing history", VALIDATIONS + MITIGATIONS);
    let mut written = 0;
    for (kind, count) in [(Kind::Validation, VALIDATIONS), (Kind::Mitigation, MITIGATIONS)] {
        let begin = SystemTime::now() - DAYS * Duration::from_secs(24 * 3600);
        let step = DAYS * Duration::from_secs(24 * 3600) / count as u32;
        for first in (0..count).step_by(BATCH) {
            let rows: Vec<String> = (first..count.min(first + BATCH))
                .map(|number| {
                    let story = Story::new(kind, repository::any(&mut random), application, &mut random);
                    // Ended this long before the next one at the earliest.
                    let end = begin + step * number as u32 + step.mul_f64(random.unit());
                    let id = ids[story.repository.full_path].to_string();
                    let abandoned = kind == Kind::Validation && (count / 2..count / 2 + ABANDONED).contains(&number);
                    row(&story, &id, end, abandoned, &mut random)
                })
                .collect();
            let sql = format!("INSERT INTO {} ({}) VALUES {}", kind.table(), kind.columns(), rows.join(",\n"));
            client
                .batch_execute(&sql)
                .await
                .map_err(|error| Failure::new(format!("writing the history: {}", Failure::from(error))))?;
            written += rows.len();
            progress.advance(written);
        }
    }
    client.batch_execute("ANALYZE").await?;
    Ok((written - ABANDONED) as u64)
}

/// The row of `story`, which ended at `end`.
fn row(story: &Story, repository: &str, end: SystemTime, abandoned: bool, random: &mut Random) -> String {
    let time = |time: SystemTime| format!("'{}'", humantime::format_rfc3339_micros(time));
    let end_text = time(end);
    let (started, completed) = match random.between(1, 200) {
        _ if abandoned => (time(end), "NULL".into()),
        1..=4 => (end_text.clone(), end_text.clone()), // a client that sent neither
        5 => ("NULL".into(), end_text.clone()),
        6 => (time(end + Duration::from_secs(2)), end_text.clone()), // a clock that was set back
        _ => (time(end - story.took), end_text.clone()),
    };
    let status = if abandoned { "running" } else { story.status };
    story.row(repository, status, &Times { started: &started, completed: &completed, now: &end_text })
}
