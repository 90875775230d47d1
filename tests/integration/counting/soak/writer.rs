//! One of many writers: all that an application can do to its tables.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::rows::Row;
use super::{PAIRED, Polls};
use crate::random::Random;
use crate::support::database::{Database, add_repository, connect};
use crate::support::failure::Failure;
use crate::support::truth::{Table, Truth};

const REPOS: [&str; 5] = ["acme/api", "acme/site", "acme/\"quoted\\one\"", "zoo/keeper", "zoo/lion"];

/// Ids that no other writer uses; below 0, and far above what the sequence hands out.
static EXPLICIT: AtomicI64 = AtomicI64::new(1);

/// Errors that are part of the game.
const LOST: [Option<&SqlState>; 2] = [Some(&SqlState::UNIQUE_VIOLATION), Some(&SqlState::T_R_DEADLOCK_DETECTED)];

/// A row that has not finished.
struct Open {
    id: i64,
    table: Table,
    repo: usize,
}

/// What a transaction does, for when it commits.
#[derive(Default)]
struct Effects {
    opened: Vec<Open>,
    finished: Vec<(i64, Row)>,
    /// Open rows that finished here: open still if it rolls back.
    taken: Vec<Open>,
}

/// The statement was refused, and with it the transaction.
struct Aborted;

pub struct Writer {
    url: String,
    client: Client,
    random: Random,
    repos: Vec<(i64, &'static str)>,
    explicit_ids: bool,
    truth: Truth,
    open: Vec<Open>,
    counted: VecDeque<(Table, i64, Instant)>,
}

impl Writer {
    /// A writer with a sequence of its own. With odd seeds ids are given explicitly now and then.
    pub async fn new(db: &Database<'_>, seed: u64, number: u64) -> Self {
        let mut repos = Vec::new();
        for path in REPOS {
            repos.push((db.repository(path).await, path));
        }
        let url = db.cluster().socket_url(&db.name);
        Self {
            client: connect(&url).await.expect("a connection"),
            url,
            random: Random::new(seed * 1000 + number),
            repos,
            explicit_ids: seed % 2 == 1,
            truth: Truth::default(),
            open: Vec::new(),
            counted: VecDeque::new(),
        }
    }

    /// Writes until `until`, and says what has to be counted.
    pub async fn write(&mut self, polls: &Polls, until: Instant) -> Truth {
        while Instant::now() < until {
            match self.random.between(0, 99) {
                0..15 => self.abandon().await,
                15..35 => self.touch_the_counted(polls).await,
                _ => self.transaction().await,
            }
            self.pause(60).await;
        }
        std::mem::take(&mut self.truth)
    }

    /// Some steps, some of them undone, and then COMMIT or ROLLBACK.
    async fn transaction(&mut self) {
        let held = self.random.chance(15.0);
        self.sql("BEGIN").await;
        let mut effects = Effects::default();
        for _ in 0..self.random.between(1, 4) {
            let savepoint = self.random.chance(30.0);
            let mark = (effects.opened.len(), effects.finished.len(), effects.taken.len());
            if savepoint {
                self.sql("SAVEPOINT step").await;
            }
            let step = self.step(&mut effects).await;
            if step.is_err() {
                self.sql("ROLLBACK").await;
                self.open.append(&mut effects.taken);
                return;
            }
            if held {
                self.pause(900).await;
            }
            if savepoint && self.random.chance(50.0) {
                self.sql("ROLLBACK TO step").await;
                effects.opened.truncate(mark.0);
                effects.finished.truncate(mark.1);
                self.open.extend(effects.taken.drain(mark.2..));
            }
        }
        if self.random.chance(25.0) {
            self.sql("ROLLBACK").await;
            self.open.append(&mut effects.taken);
            return;
        }
        self.sql("COMMIT").await;
        let now = Instant::now();
        self.open.append(&mut effects.opened);
        for (id, row) in effects.finished {
            self.truth.count(&row.counted);
            self.counted.push_back((row.counted.table, id, now));
        }
    }

    async fn step(&mut self, effects: &mut Effects) -> Result<(), Aborted> {
        let table = self.table();
        let repo = self.random.index(self.repos.len());
        match self.random.between(0, 99) {
            0..30 => {
                let count = self.random.between(1, 3);
                self.insert(effects, table, repo, count).await
            }
            30..35 => {
                let count = self.random.between(50, 300);
                self.insert(effects, table, repo, count).await
            }
            35..38 if self.explicit_ids => self.insert_explicit(effects, table, repo).await,
            35..60 => self.insert_open(effects, table, repo).await,
            _ => self.walk(effects).await,
        }
    }

    async fn insert(&mut self, effects: &mut Effects, table: Table, repo: usize, n: u32) -> Result<(), Aborted> {
        let rows: Vec<Row> = (0..n).map(|_| Row::new(&mut self.random, table, self.repos[repo])).collect();
        let ids = self.ids(&Row::insert(&rows)).await?;
        effects.finished.extend(ids.into_iter().zip(rows));
        Ok(())
    }

    async fn insert_explicit(&mut self, effects: &mut Effects, table: Table, repo: usize) -> Result<(), Aborted> {
        let row = Row::new(&mut self.random, table, self.repos[repo]);
        let own = EXPLICIT.fetch_add(1, Ordering::Relaxed);
        let id = match self.random.between(0, 3) {
            0 => format!("-{own}"),
            1 => format!("{}", 1_000_000_000_000 + own * 1000),
            // Where the sequence gets to soon: whoever is later fails.
            _ => format!("(SELECT last_value + {} FROM {}_id_seq)", self.random.between(1, 3000), table.name()),
        };
        let ids = self.ids(&row.insert_as(&id)).await?;
        effects.finished.push((ids[0], row));
        Ok(())
    }

    /// Many of these are never looked at again and run for ever.
    async fn insert_open(&mut self, effects: &mut Effects, table: Table, repo: usize) -> Result<(), Aborted> {
        let status = if self.random.chance(50.0) { "pending" } else { "running" };
        let sql = format!(
            "INSERT INTO {} (repository_id, issue_number, commit_sha, status, inserted_at, updated_at)
             VALUES ({}, 1, 'c0ffee', '{status}', now(), now()) RETURNING id",
            table.name(),
            self.repos[repo].0
        );
        let id = self.ids(&sql).await?[0];
        effects.opened.push(Open { id, table, repo });
        Ok(())
    }

    /// Lets an open row go on, finish, or vanish.
    async fn walk(&mut self, effects: &mut Effects) -> Result<(), Aborted> {
        if self.open.is_empty() {
            return Ok(());
        }
        let at = self.random.index(self.open.len());
        let table = self.open[at].table.name();
        match self.random.between(0, 9) {
            0..3 => {
                let id = self.open[at].id;
                self.sql(&format!("UPDATE {table} SET status = 'running', updated_at = now() WHERE id = {id}")).await;
            }
            9 => {
                // Whether this commits or not, it never finishes.
                let open = self.open.swap_remove(at);
                self.sql(&format!("DELETE FROM {table} WHERE id = {}", open.id)).await;
            }
            _ => {
                let open = self.open.swap_remove(at);
                let row = Row::new(&mut self.random, open.table, self.repos[open.repo]);
                self.sql(&row.finish(open.id)).await;
                effects.finished.push((open.id, row));
                effects.taken.push(open);
            }
        }
        Ok(())
    }

    /// Begins something, and the connection breaks.
    async fn abandon(&mut self) {
        let client = connect(&self.url).await.expect("a connection");
        let table = self.table();
        let row = Row::new(&mut self.random, table, self.repos[0]);
        client.batch_execute(&format!("BEGIN; {}", Row::insert(&[row]))).await.expect("an insert");
        self.pause(300).await;
    }

    /// Edits, un-finishes or deletes rows that two polls have seen finished: nothing of it may show.
    async fn touch_the_counted(&mut self, polls: &Polls) {
        for _ in 0..self.random.between(1, 20) {
            let Some(&(table, id, committed)) = self.counted.front() else { return };
            if !polls.two_since(committed) {
                return;
            }
            self.counted.pop_front();
            let row = Row::new(&mut self.random, table, self.repos[0]);
            let name = table.name();
            match self.random.between(0, 3) {
                // An id that was given explicitly can be ahead of the sequence: without its row it would be handed out
                // again, to one that nobody can tell from the row that was counted.
                0 => {
                    let passed = format!("id <= (SELECT last_value FROM {name}_id_seq)");
                    self.sql(&format!("DELETE FROM {name} WHERE id = {id} AND {passed}")).await;
                }
                1 => self.sql(&row.finish(id)).await,
                2 => {
                    let edit = "status = 'running', completed_at = NULL, commit_sha = 'seen'";
                    self.sql(&format!("UPDATE {name} SET {edit} WHERE id = {id}")).await;
                }
                _ => {}
            }
        }
    }

    /// Keeps writing one row to each table in one transaction.
    pub async fn pair(mut self, until: Instant) -> Truth {
        let mut truth = Truth::default();
        while Instant::now() < until {
            truth.merge(self.pair_once().await);
            self.pause(100).await;
        }
        truth
    }

    /// One row for each table, committed at once.
    pub async fn pair_once(&mut self) -> Truth {
        let repo = (add_repository(&self.client, PAIRED).await.expect("a repository"), PAIRED);
        let mut truth = Truth::default();
        self.sql("BEGIN").await;
        for table in [Table::Validation, Table::Mitigation] {
            let mut row = Row::new(&mut self.random, table, repo);
            // One set of labels, there from the start.
            let data = "'{\"language\": \"c\", \"tests_generated\": 0}'::jsonb";
            row.finished = format!("'completed', {data}, NULL, NULL, now(), now()");
            row.counted = crate::support::truth::Counted {
                duration_ms: Some(0.0),
                sums: [Some(0.0), None, None, None],
                ..crate::support::truth::Counted::new(table, [PAIRED, "c", "none"])
            };
            if self.ids(&Row::insert(std::slice::from_ref(&row))).await.is_err() {
                self.sql("ROLLBACK").await;
                return Truth::default();
            }
            truth.count(&row.counted);
            self.pause(100).await;
        }
        self.sql("COMMIT").await;
        truth
    }

    /// Fills a repository, deletes it with all its rows once they are counted, and begins again under the same name.
    pub async fn retain(mut self, polls: &Polls, until: Instant) -> Truth {
        const PATH: &str = "old/retained";
        while Instant::now() < until {
            let repo = add_repository(&self.client, PATH).await.expect("a repository");
            self.repos = vec![(repo, PATH)];
            for table in [Table::Validation, Table::Mitigation] {
                let mut effects = Effects::default();
                let count = self.random.between(5, 80);
                // Each commits by itself; one that fails for an id that is taken leaves nothing.
                let _ = self.insert(&mut effects, table, 0, count).await;
                let _ = self.insert_open(&mut effects, table, 0).await;
                effects.finished.iter().for_each(|(_, row)| self.truth.count(&row.counted));
            }
            let committed = Instant::now();
            while !polls.two_since(committed) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            self.sql(&format!("DELETE FROM repositories WHERE id = {repo}")).await;
        }
        self.truth
    }

    fn table(&mut self) -> Table {
        if self.random.chance(50.0) { Table::Validation } else { Table::Mitigation }
    }

    async fn pause(&mut self, longest_ms: u32) {
        let ms = self.random.between(0, longest_ms);
        tokio::time::sleep(Duration::from_millis(ms.into())).await;
    }

    async fn ids(&mut self, sql: &str) -> Result<Vec<i64>, Aborted> {
        match self.client.query(sql, &[]).await {
            Ok(rows) => Ok(rows.iter().map(|row| row.get(0)).collect()),
            // Another one gave this id explicitly, or two wait for each other to have done so.
            Err(error) if LOST.contains(&error.code()) => Err(Aborted),
            Err(error) => panic!("{}\n{sql}", Failure::from(error)),
        }
    }

    async fn sql(&self, sql: &str) {
        if let Err(error) = self.client.batch_execute(sql).await {
            panic!("{}\n{sql}", Failure::from(error));
        }
    }
}
