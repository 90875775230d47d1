//! Which rows next, of a table whose keys say nothing of the order of insertion: those in a window along a column that
//! does, or those of transactions that the last snapshot did not see.
//!
//! A *pass* reads the keys from the floor of the window up, or those that one snapshot sees and the last one did not, in
//! one transaction or in several. Keys that are not known are read as whole rows. A row that nobody could see when a pass
//! began is found by the next one: its window begins so far below the newest row that the pass began with as a row can be
//! late.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

pub use super::known::Hash;
use super::known::Known;

/// The columns of a key as text.
pub type Key = Vec<String>;

/// So many keys below the window are remembered, to find out about rows that come later than they may.
pub const MEMORY: usize = 30_000;
/// Open rows that are not there are looked for at every poll up to so many, and else at this interval (milliseconds).
const ABSENT: usize = 2_000;
const ABSENT_INTERVAL: i64 = 300_000;
/// More of them are given up, the oldest first.
const MOST_ABSENT: usize = 100_000;

/// The hash of a key: no other list of texts has the same.
pub fn hash(key: &[String]) -> Hash {
    let mut sha = openssl::sha::Sha256::new();
    for part in key {
        sha.update(&(part.len() as u64).to_le_bytes());
        sha.update(part.as_bytes());
    }
    let mut hash = Hash::default();
    hash.copy_from_slice(&sha.finish()[..16]);
    hash
}

/// What a scan shows of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The columns of its key.
    pub key: Key,
    /// What stands where it is in the order.
    pub place: Vec<String>,
    /// Its order as a number; 0 where there is none.
    pub tick: i64,
}

/// How far the order goes back that rows can come late, and where time is now, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// How far behind the newest row another one can appear.
    pub late: i64,
    /// Nothing newer has happened, where ticks are times.
    pub now: Option<i64>,
    /// See [`MEMORY`].
    pub memory: usize,
}

/// A row that was seen and is not done, or could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    key: Key,
    tick: i64,
    /// Since when it has not been there, in milliseconds since the epoch.
    absent: Option<i64>,
}

/// A pass that has not come to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Pass {
    /// The newest tick when it began.
    newest: Option<i64>,
    /// The snapshot with which it began.
    snapshot: Option<String>,
    /// The place of the last row that was scanned.
    after: Vec<String>,
}

/// What is known of the keys of one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KeyWindow {
    /// The newest tick when the last whole pass began.
    newest: Option<i64>,
    /// The snapshot with which the last whole pass began.
    snapshot: Option<String>,
    /// Whose snapshots these are.
    server: Option<String>,
    /// Letters of the order are small, if it is text.
    is_small: bool,
    pass: Option<Pass>,
    /// Keys of counted rows with their ticks: all from [`KeyWindow::known_from`] on.
    known: Known,
    /// Nothing below this is known; nothing has been forgotten if there is none.
    known_from: Option<i64>,
    #[serde(with = "opened")]
    open: BTreeMap<Hash, Open>,
    /// When absent rows were last looked for, in milliseconds since the epoch.
    looked: i64,
    /// The place up to which the search for late rows has come.
    checked: Option<Vec<String>>,
    /// Open rows that were given up.
    dropped: u64,
    /// Rows that came later than they may, and were counted.
    late: u64,
}

/// Where a scan begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first row.
    Beginning,
    /// At this tick.
    From(i64),
    /// Behind the row at this place.
    After(Vec<String>),
}

/// A key whose row is read as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    key: Key,
    hash: Hash,
    tick: i64,
    is_late: bool,
}

/// What one transaction finds.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    asked: Vec<Asked>,
    /// The keys that are asked for.
    taken: HashSet<Hash>,
    /// Keys that were looked for, and whether each is there and not done.
    watched: Vec<(Hash, Status)>,
    is_full: bool,
    /// What the pass began with, if it began in this transaction.
    begun: bool,
    snapshot: Option<String>,
    newest: Option<i64>,
    last: Option<Vec<String>>,
    is_small: bool,
    /// The server, where snapshots matter.
    pub server: Option<String>,
    /// True if the scan came to the end.
    pub is_ended: bool,
    /// Ticks of known or open rows that have moved up.
    moved: Vec<(Hash, i64)>,
    /// How many of them had been counted.
    pub counted_moved: u64,
    checked: Option<Option<Vec<String>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Absent,
    Open,
    Done,
}

/// One key stands for several rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Twice;

impl KeyWindow {
    /// True if nothing was ever seen.
    pub fn is_unused(&self) -> bool {
        *self == Self::default()
    }

    /// Rows seen and not done, as far as they are there.
    pub fn open(&self) -> u64 {
        self.open.values().filter(|open| open.absent.is_none()).count() as u64
    }

    /// Open rows that are not there, and are looked for.
    pub fn absent(&self) -> u64 {
        self.open.len() as u64 - self.open()
    }

    /// Open rows that were given up.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Rows that came later than they may, and were counted all the same.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// The snapshot with which the last whole pass began, and that with which the one under way did.
    pub fn snapshots(&self) -> (Option<&str>, Option<&str>) {
        (self.snapshot.as_deref(), self.pass.as_ref().and_then(|pass| pass.snapshot.as_deref()))
    }

    /// The server whose snapshots these are, if they were taken.
    pub fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// True if the order is text with small letters.
    pub fn is_small(&self) -> bool {
        self.is_small
    }

    /// The first tick of the window.
    pub fn floor(&self, reach: Reach) -> Option<i64> {
        self.newest
            .map(|newest| newest.saturating_sub(reach.late))
            .map(|floor| floor.max(self.known_from.unwrap_or(i64::MIN)))
    }

    /// Where the next scan begins.
    pub fn start(&self, reach: Reach) -> Start {
        match (&self.pass, self.floor(reach)) {
            (Some(pass), _) => Start::After(pass.after.clone()),
            (None, Some(floor)) => Start::From(floor),
            (None, None) => Start::Beginning,
        }
    }

    /// Begins a transaction in which `snapshot` is the database's; open rows are looked for if it `is_full`.
    pub fn begin(&self, snapshot: Option<String>, is_full: bool) -> Sweep {
        let pass = self.pass.clone();
        Sweep {
            is_full,
            begun: pass.is_none(),
            snapshot: pass.as_ref().map_or(snapshot, |pass| pass.snapshot.clone()),
            newest: pass.and_then(|pass| pass.newest),
            is_small: self.is_small,
            ..Sweep::default()
        }
    }

    /// The keys of rows to look for: open ones, and in their turn those that were not there.
    pub fn watch(&self, now: i64) -> Vec<Key> {
        let are_due = self.absent() <= ABSENT as u64 || !(0..ABSENT_INTERVAL).contains(&(now - self.looked));
        let due = self.open.values().filter(|open| open.absent.is_none() || are_due);
        due.map(|open| open.key.clone()).collect()
    }

    /// Takes what a pass has found, and lets time pass. `done` says of each key that was asked for whether its row is,
    /// and nothing if it could not be read. Returns how many rows were counted that came too late.
    pub(super) fn take(&mut self, sweep: &Sweep, done: &[Option<bool>], reach: Reach, now: i64, gap_watch: i64) -> u64 {
        let floor = self.floor(reach);
        for (hash, tick) in &sweep.moved {
            match self.open.get_mut(hash) {
                Some(open) => open.tick = open.tick.max(*tick),
                None => self.known.insert(*hash, *tick),
            }
        }
        if sweep.is_full {
            let looked_for_absent = sweep.watched.len() > self.open() as usize;
            for (hash, status) in &sweep.watched {
                if let Some(open) = self.open.get_mut(hash) {
                    let since = open.absent.unwrap_or(now);
                    open.absent = (*status == Status::Absent).then_some(since);
                }
            }
            if looked_for_absent {
                self.looked = now;
            }
        }
        let mut late = 0;
        for (asked, done) in sweep.asked.iter().zip(done) {
            if *done == Some(true) {
                let tick = self.open.remove(&asked.hash).map_or(asked.tick, |open| open.tick.max(asked.tick));
                if sweep.snapshot.is_none() {
                    // Its order may be another one than when it was seen, though not below the window.
                    self.known.insert(asked.hash, floor.map_or(tick, |floor| tick.max(floor)));
                }
                late += u64::from(asked.is_late);
            } else {
                let (key, tick) = (asked.key.clone(), asked.tick);
                self.open.entry(asked.hash).or_insert(Open { key, tick, absent: None });
            }
        }
        self.late += late;
        self.server = sweep.server.clone().or(self.server.take());
        self.is_small = sweep.is_small;
        let newest = sweep.newest.map(|newest| reach.now.map_or(newest, |now| newest.min(now)));
        let newest = self.newest.into_iter().chain(newest).max();
        if sweep.is_ended {
            (self.newest, self.snapshot, self.pass) = (newest, sweep.snapshot.clone(), None);
        } else if let Some(last) = &sweep.last {
            let snapshot = sweep.snapshot.clone();
            self.pass = Some(Pass { newest, snapshot, after: last.clone() });
        }
        if let Some(checked) = &sweep.checked {
            self.checked.clone_from(checked);
        }
        let keep = newest.map(|newest| newest.saturating_sub(reach.late));
        self.forget(keep, reach.memory);
        self.give_up(now, gap_watch);
        late
    }

    /// Forgets the oldest of the keys below the window if they are too many.
    fn forget(&mut self, floor: Option<i64>, memory: usize) {
        let Some(floor) = floor else { return };
        if let Some(from) = self.known.cut(floor, memory) {
            self.known_from = Some(self.known_from.map_or(from, |was| was.max(from)));
        }
    }

    fn give_up(&mut self, now: i64, gap_watch: i64) {
        let mut absent: Vec<(i64, Hash)> =
            self.open.iter().filter_map(|(hash, open)| Some((open.absent?, *hash))).collect();
        absent.sort_unstable();
        let excess = absent.len().saturating_sub(MOST_ABSENT);
        let is_old = |since: i64| now.saturating_sub(since) >= gap_watch;
        for (i, (since, hash)) in absent.into_iter().enumerate() {
            if i < excess || is_old(since) {
                self.open.remove(&hash);
                self.dropped += 1;
            }
        }
    }

    /// Where the search for late rows goes on: below the window, as far back as keys are known.
    pub fn check(&self) -> Start {
        match (&self.checked, self.known_from) {
            (Some(place), _) => Start::After(place.clone()),
            (None, Some(from)) => Start::From(from),
            (None, None) => Start::Beginning,
        }
    }
}

impl Sweep {
    /// The keys to read as whole rows, which answer under their places in this list, from 1 on.
    pub fn asked(&self) -> impl ExactSizeIterator<Item = &Key> {
        self.asked.iter().map(|asked| &asked.key)
    }

    /// True if open rows were looked for.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// True if the scan's first row is that of a new pass.
    pub fn is_begun(&self) -> bool {
        self.begun
    }

    /// The place of the last row that was scanned.
    pub fn last(&self) -> Option<&Vec<String>> {
        self.last.as_ref()
    }

    /// The snapshot with which the pass began.
    pub fn snapshot(&self) -> Option<&str> {
        self.snapshot.as_deref()
    }

    /// The pass began with this newest tick.
    pub fn begins_with(&mut self, newest: Option<i64>) {
        self.newest = newest;
    }

    /// Takes what a watch for `keys` showed: `(number from 1 on, whether it is done)`. Those that are done are asked for.
    ///
    /// # Errors
    /// Fails if one of them is there twice.
    pub fn watched(&mut self, window: &KeyWindow, keys: &[Key], seen: &[(i64, bool)]) -> Result<(), Twice> {
        let mut all: Vec<(Hash, Status)> = keys.iter().map(|key| (hash(key), Status::Absent)).collect();
        for (number, done) in seen {
            let at = usize::try_from(number - 1).unwrap_or(usize::MAX);
            let Some((hash, status)) = all.get_mut(at) else { continue };
            if *status != Status::Absent {
                return Err(Twice);
            }
            *status = if *done { Status::Done } else { Status::Open };
            if *done {
                let tick = window.open.get(hash).map_or(0, |open| open.tick);
                self.ask(Asked { key: keys[at].clone(), hash: *hash, tick, is_late: false });
            }
        }
        self.watched = all;
        Ok(())
    }

    fn ask(&mut self, asked: Asked) {
        self.taken.insert(asked.hash);
        self.asked.push(asked);
    }

    /// Takes rows of a scan, in order.
    ///
    /// # Errors
    /// Fails if a key is there twice.
    pub fn scanned(&mut self, window: &KeyWindow, floor: Option<i64>, rows: Vec<Place>) -> Result<(), Twice> {
        if let Some(row) = rows.last() {
            self.last = Some(row.place.clone());
            self.is_small |= row.place[0].bytes().any(|c| c.is_ascii_lowercase());
        }
        if self.begun && self.snapshot.is_none() {
            self.newest = rows.iter().map(|row| row.tick).chain(self.newest).max();
        }
        let mut before: Option<&Key> = None;
        for row in &rows {
            if before.replace(&row.key) == Some(&row.key) {
                return Err(Twice);
            }
            if floor.is_none_or(|floor| row.tick >= floor) {
                self.look(window, row, false)?;
            }
        }
        Ok(())
    }

    /// Takes rows of the search for late ones; it begins again if they reach the window, or there are no more.
    ///
    /// # Errors
    /// Fails if a key is there twice.
    pub fn checked(&mut self, window: &KeyWindow, floor: i64, rows: Vec<Place>, is_last: bool) -> Result<(), Twice> {
        let is_below = |row: &&Place| row.tick < floor;
        let is_known = |row: &&Place| window.known_from.is_none_or(|from| row.tick >= from);
        for row in rows.iter().filter(is_below).filter(is_known) {
            self.look(window, row, true)?;
        }
        let next = rows.last().filter(|row| !is_last && row.tick < floor);
        self.checked = Some(next.map(|row| row.place.clone()));
        Ok(())
    }

    fn look(&mut self, window: &KeyWindow, row: &Place, is_late: bool) -> Result<(), Twice> {
        let hash = hash(&row.key);
        if let Some(tick) = window.known.get(&hash) {
            if row.tick > tick {
                self.moved.push((hash, row.tick));
                self.counted_moved += 1;
            }
        } else if let Some(open) = window.open.get(&hash) {
            if row.tick > open.tick {
                self.moved.push((hash, row.tick));
            }
        } else if self.taken.contains(&hash) {
            return Err(Twice);
        } else {
            self.ask(Asked { key: row.key.clone(), hash, tick: row.tick, is_late });
        }
        Ok(())
    }
}

/// Open rows as a list.
mod opened {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Hash, Open, hash};

    pub fn serialize<S: Serializer>(open: &BTreeMap<Hash, Open>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(open.values())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<Hash, Open>, D::Error> {
        Ok(Vec::<Open>::deserialize(deserializer)?.into_iter().map(|open| (hash(&open.key), open)).collect())
    }
}
