//! What a poll asks of a source whose rows have a key of their own, in one transaction.

use std::collections::HashMap;

use tokio::time::{Duration, Instant};

use super::failing;
use crate::ledger::frontier::Range;
use crate::ledger::key_window::{Hash, Key as Values, KeyWindow, MEMORY, Reach, Start, Sweep, Twice, hash};
use crate::ledger::{ApplyError, Group, Seen};
use crate::postgres::keyed::Scan;
use crate::postgres::{Failure, Reason, Session};
use crate::source::Source;
use crate::source::key::{Key, Way};
use crate::sql::order::Order;

/// The search for late rows looks at so many keys a poll.
const CHECKED: usize = 1_000;
/// Rows on which the SELECT raises are tried again after this time, so many of them by one poll.
const RETRY: Duration = Duration::from_secs(300);
const AGAIN: usize = 5;

/// The keys of rows on which the SELECT of a source raised, hashed, and when each is tried again.
pub type FailingKeys = HashMap<Hash, Instant>;

/// What a source answered.
pub struct Answer {
    /// What was found.
    pub sweep: Sweep,
    /// Open rows that are there.
    pub seen: Vec<Seen>,
    /// Rows that were read.
    pub groups: Vec<Group>,
    /// The numbers of those that were not.
    pub failing: Vec<i64>,
    /// How many of these could be read before, or are new.
    pub newly_failing: usize,
    /// Why one of them cannot.
    pub failure: Option<Failure>,
    /// How far back rows can come.
    pub reach: Reach,
    /// How long it took to read the rows.
    pub took: Duration,
}

/// What is asked, and how much of it.
pub struct Ask<'a> {
    /// The source.
    pub source: &'a Source,
    /// Its key.
    pub key: &'a Key,
    /// What is known.
    pub window: &'a KeyWindow,
    /// The database's clock, in seconds since the epoch.
    pub clock: f64,
    /// Whether to look for open rows, too.
    pub is_full: bool,
    /// Whether to search for late rows, too.
    pub checks: bool,
    /// So many rows are read at once.
    pub limit: usize,
}

impl Ask<'_> {
    /// Reads what the window asks for; inside [`Session::with_savepoint`].
    pub async fn read(&self, session: &Session, failing: &mut FailingKeys) -> Result<Answer, Failure> {
        let (source, key, window) = (self.source, self.key, self.window);
        let order = session.order(source, key)?;
        let reach = reach(source, key, order, self.clock)?;
        let snapshot = if order.is_none() { Some(session.snapshot(source, key).await?) } else { None };
        let mut sweep = window.begin(snapshot, self.is_full);
        let mut seen = Vec::new();
        if self.is_full {
            seen = self.watch(session, &mut sweep).await?;
        }
        self.scan(session, &mut sweep, order, reach).await?;
        if self.checks && sweep.is_ended {
            self.check(session, &mut sweep, order, reach).await?;
        }

        let started = Instant::now();
        let keys: Vec<&Values> = sweep.asked().collect();
        let due = self.due(&keys, failing);
        let mut answer = Answer {
            seen,
            groups: Vec::new(),
            failing: (1..=keys.len() as i64).filter(|number| due.binary_search(number).is_err()).collect(),
            newly_failing: 0,
            failure: None,
            reach,
            took: Duration::ZERO,
            sweep: Sweep::default(),
        };
        let keys = &keys;
        let mut raised = Vec::new();
        for numbers in due.chunks(self.limit.max(1)) {
            let numbers: Vec<Range> = numbers.iter().map(|&number| (number, number, None)).collect();
            let some = |numbers: Vec<Range>| async move {
                let some: Vec<&Values> = numbers.iter().map(|number| keys[number.0 as usize - 1]).collect();
                let mut groups = session.read_keys(source, key, &some).await?;
                for id in groups.iter_mut().flat_map(|group| &mut group.ids) {
                    // Its place in this statement becomes its number.
                    *id = numbers.get(*id as usize - 1).map_or(0, |number| number.0);
                }
                Ok(groups)
            };
            let part = failing::read_numbers(session, &numbers, some).await?;
            if part.is_partial {
                // So many rows raise that some were not tried: what was read is one transaction's work.
                let read: Vec<i64> = part.rows.iter().flat_map(|group| &group.ids).copied().collect();
                let is_left = |number: &&Range| !read.contains(&number.0) && !part.failing.contains(&number.0);
                answer.failing.extend(numbers.iter().filter(is_left).map(|number| number.0));
            }
            answer.groups.extend(part.rows);
            raised.extend(part.failing);
            answer.failure = answer.failure.take().or(part.failure);
        }
        let again = Instant::now() + RETRY;
        for number in &due {
            let hash = hash(keys[*number as usize - 1]);
            if raised.contains(number) {
                answer.newly_failing += usize::from(failing.insert(hash, again).is_none());
            } else if !failing.is_empty() {
                failing.remove(&hash);
            }
        }
        answer.failing.extend(raised);
        answer.took = started.elapsed();
        answer.sweep = sweep;
        Ok(answer)
    }

    /// Looks for open rows.
    async fn watch(&self, session: &Session, sweep: &mut Sweep) -> Result<Vec<Seen>, Failure> {
        let keys = self.window.watch((self.clock * 1000.0) as i64);
        let mut seen = Vec::new();
        let mut before = 0;
        for part in keys.chunks(self.limit.max(1)) {
            let mut rows = session.seen_keys(self.source, self.key, &part.iter().collect::<Vec<_>>()).await?;
            rows.iter_mut().flat_map(|seen| &mut seen.ids).for_each(|number| *number += before);
            before += part.len() as i64;
            seen.extend(rows);
        }
        let numbers: Vec<(i64, bool)> =
            seen.iter().flat_map(|seen| seen.ids.iter().map(|number| (*number, seen.done))).collect();
        sweep.watched(self.window, &keys, &numbers).map_err(|twice| self.twice(twice))?;
        Ok(seen)
    }

    /// Scans keys until there are enough that are not known, or no more.
    async fn scan(
        &self,
        session: &Session,
        sweep: &mut Sweep,
        order: Option<Order>,
        reach: Reach,
    ) -> Result<(), Failure> {
        let (saw, _) = self.window.snapshots();
        let sees = sweep.snapshot().map(str::to_owned);
        let floor = self.window.floor(reach).filter(|_| order.is_some());
        let mut start = self.window.start(reach);
        loop {
            let is_small = self.window.is_small();
            let scan = Scan { start: &start, is_small, sees: sees.as_deref(), saw, limit: self.limit };
            let rows = session.scan(self.source, self.key, scan).await?;
            let is_last = rows.len() < self.limit;
            sweep.scanned(self.window, floor, rows).map_err(|twice| self.twice(twice))?;
            if is_last {
                sweep.is_ended = true;
                return Ok(());
            }
            if sweep.asked().len() >= self.limit {
                break;
            }
            start = Start::After(sweep.last().cloned().unwrap_or_default());
        }
        if let Some(order) = order.filter(|_| sweep.is_begun()) {
            sweep.begins_with(session.newest(self.source, self.key, order).await?);
        }
        Ok(())
    }

    /// Searches some way below the window for rows that came too late.
    async fn check(
        &self,
        session: &Session,
        sweep: &mut Sweep,
        order: Option<Order>,
        reach: Reach,
    ) -> Result<(), Failure> {
        let Some(floor) = self.window.floor(reach).filter(|_| order.is_some()) else { return Ok(()) };
        let start = self.window.check();
        let scan = Scan { start: &start, is_small: self.window.is_small(), sees: None, saw: None, limit: CHECKED };
        let rows = session.scan(self.source, self.key, scan).await?;
        let is_last = rows.len() < CHECKED;
        sweep.checked(self.window, floor, rows, is_last).map_err(|twice| self.twice(twice))
    }

    /// The numbers of keys that are to be read: all but those of rows that raised, as far as it is not their turn.
    fn due(&self, keys: &[&Values], failing: &FailingKeys) -> Vec<i64> {
        let (now, mut again) = (Instant::now(), 0);
        let is_due = |key: &Values| match failing.is_empty() {
            true => true,
            false => failing.get(&hash(key)).is_none_or(|due| {
                let is_due = *due <= now && again < AGAIN;
                again += usize::from(is_due);
                is_due
            }),
        };
        let all = keys.iter().map(|key| &**key).zip(1_i64..);
        let mut is_due = is_due;
        all.filter_map(|(key, number)| is_due(key).then_some(number)).collect()
    }

    fn twice(&self, Twice: Twice) -> Failure {
        Failure::new(Reason::Duplicate, format!("{}.sql: {}", self.source.name, ApplyError::DuplicateKey))
    }
}

/// How far back rows can come, in ticks of an order.
fn reach(source: &Source, key: &Key, order: Option<Order>, clock: f64) -> Result<Reach, Failure> {
    let (Some(order), Way::Order { late, .. }) = (order, &key.way) else { return Ok(Reach::default()) };
    let late = order.ticks(*late).ok_or_else(|| {
        let message = format!("{}.toml: late: must be a number where order is one, and else a time", source.name);
        Failure::new(Reason::Missing, message)
    })?;
    Ok(Reach { late, now: order.now(clock), memory: MEMORY })
}
