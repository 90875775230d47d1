//! Executions that happen while the demo runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::application::Application;
use super::random::Random;
use super::repository::{self, NEWCOMERS, Repository};
use super::story::{Kind, Story, Times};
use crate::support::database::{add_repository, connect};
use crate::support::execution::{NOW, before_now};
use crate::support::failure::Result;

/// A new repository turns up with every so manieth execution.
const NEWCOMER_EVERY: usize = 60;

/// What all writers share.
#[derive(Clone)]
pub struct Writer {
    client: Arc<Client>,
    application: Application,
    /// True once nothing more is to be started.
    stop: watch::Receiver<bool>,
}

impl Writer {
    pub fn new(client: Client, application: Application, stop: watch::Receiver<bool>) -> Self {
        Self { client: Arc::new(client), application, stop }
    }

    /// Lets executions arrive, a few every second, until told to stop. What
    /// has been sent to the server by then is finished and counted.
    pub async fn run(mut self, url: &str) -> Result<()> {
        let mut random = Random::new(2);
        let mut tasks = JoinSet::new();
        let late = Self { client: Arc::new(connect(url).await?), ..self.clone() };
        tasks.spawn(late.commit_late());
        for number in 1.. {
            let pause = Duration::from_millis(random.between(80, 500).into());
            if !self.pause(pause).await {
                break;
            }
            let kind = if random.chance(62.0) { Kind::Validation } else { Kind::Mitigation };
            let story = Story::new(kind, choose(number, &mut random), self.application, &mut random);
            let work = self.clone();
            if random.chance(60.0) {
                tasks.spawn(async move { work.insert_finished(&story).await });
            } else {
                let waits = [random.between(1, 4), random.between(2, 15)];
                let waits = waits.map(|seconds| Duration::from_secs(seconds.into()));
                tasks.spawn(work.walk(story, waits));
            }
            while let Some(done) = tasks.try_join_next() {
                done.expect("a writer does not panic")?;
            }
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("a writer does not panic")?;
        }
        Ok(())
    }

    /// As today's application does it: one INSERT when it is over.
    async fn insert_finished(self, story: &Story) -> Result<()> {
        let started = before_now(story.took);
        self.insert(story, story.status, &Times { started: &started, completed: NOW, now: NOW }).await?;
        Ok(())
    }

    /// From pending over running to its end, as the schema also has it.
    async fn walk(mut self, story: Story, [queued, worked]: [Duration; 2]) -> Result<()> {
        let table = story.kind.table();
        let id = self.insert(&story, "pending", &Times { started: "NULL", completed: "NULL", now: NOW }).await?;
        if !self.pause(queued).await {
            return Ok(());
        }
        let running = format!(
            "UPDATE {table} SET status = 'running', started_at = {NOW}, updated_at = {NOW}
             WHERE id = {id} AND status = 'pending'"
        );
        self.client.batch_execute(&running).await?;
        if !self.pause(worked).await {
            return Ok(());
        }
        // Nothing happens to a row that somebody has finished by hand meanwhile.
        let finished = format!(
            "UPDATE {table} SET status = '{status}', completed_at = {NOW}, updated_at = {NOW}, error_message = {}
             WHERE id = {id} AND status = 'running'",
            story.error(story.status),
            status = story.status,
        );
        self.client.batch_execute(&finished).await?;
        Ok(())
    }

    /// Holds transactions open after their INSERT: by the time of the commit,
    /// later ids have long been visible. Every fourth is rolled back.
    async fn commit_late(mut self) -> Result<()> {
        let mut random = Random::new(3);
        loop {
            let story = Story::new(Kind::Validation, repository::any(&mut random), self.application, &mut random);
            let started = before_now(story.took);
            let times = Times { started: &started, completed: NOW, now: NOW };
            self.client.batch_execute("BEGIN").await?;
            self.insert(&story, story.status, &times).await?;
            let go_on = self.pause(Duration::from_secs(random.between(3, 8).into())).await;
            if random.chance(25.0) {
                self.client.batch_execute("ROLLBACK").await?;
            } else {
                self.client.batch_execute("COMMIT").await?;
            }
            if !go_on || !self.pause(Duration::from_secs(4)).await {
                return Ok(());
            }
        }
    }

    /// Inserts a row, returns its id.
    async fn insert(&self, story: &Story, status: &str, times: &Times<'_>) -> Result<i64> {
        // Asked anew each time: who plays with the demo may have deleted it.
        let repository = add_repository(&self.client, story.repository.full_path).await?;
        let (table, columns) = (story.kind.table(), story.kind.columns());
        let row = story.row(&repository.to_string(), status, times);
        let sql = format!("INSERT INTO {table} ({columns}) VALUES {row} RETURNING id");
        Ok(self.client.query_one(&sql, &[]).await?.get(0))
    }

    /// Waits; false when told to stop meanwhile.
    async fn pause(&mut self, duration: Duration) -> bool {
        // An error means that the demo has gone, which is a stop too.
        tokio::time::timeout(duration, self.stop.wait_for(|stop| *stop)).await.is_err()
    }
}

/// The repository of the execution with this number.
fn choose(number: usize, random: &mut Random) -> &'static Repository {
    let arrived = &NEWCOMERS[..NEWCOMERS.len().min(number / NEWCOMER_EVERY)];
    match arrived.last() {
        Some(newest) if number.is_multiple_of(NEWCOMER_EVERY) => newest,
        Some(_) if random.chance(10.0) => &arrived[random.index(arrived.len())],
        _ => repository::any(random),
    }
}
