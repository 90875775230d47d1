//! Which table is this? Asked of its rows: some hundred counted ones are remembered as *witnesses*.
//!
//! Files, sequences and servers change for many reasons; they only say when to look closer. As long as witnesses are in
//! place, nothing has happened. That one is absent proves nothing: rows are deleted. Only another row under the id of a
//! witness proves that ids were handed out again, and then how far down.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// So many of the rows counted last are remembered.
const RECENT: usize = 256;
/// And so many with the smallest ids.
const SMALLEST: usize = 16;
/// There are never more witnesses than this; those in between are thinned out.
const MOST: usize = 400;
/// A row that finishes later than this after now, by the database's clock, has a time that means nothing (microseconds).
/// Local times of any zone are less ahead.
const NONSENSE: i64 = 26 * 3_600_000_000;

/// What identifies a counted row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When it finished, in microseconds since the epoch.
    pub at: Option<i64>,
    /// A checksum of its labels.
    pub labels: u32,
}

impl Mark {
    /// Of a row that finished at `at` (seconds since the epoch), by the checksum of its labels.
    pub fn of(at: Option<f64>, labels: u32) -> Self {
        Self { at: at.map(|seconds| (seconds * 1e6).round() as i64), labels }
    }

    /// Of a row with these labels.
    pub fn new(at: Option<f64>, labels: &[String]) -> Self {
        Self::of(at, checksum(labels.iter()))
    }
}

/// The checksum of labels.
pub fn checksum<'a>(labels: impl Iterator<Item = &'a String>) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    for label in labels {
        hash.update(label.as_bytes());
        hash.update(&[0]);
    }
    hash.finalize()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "SavedWitness", into = "SavedWitness")]
struct Witness {
    mark: Mark,
    /// Grows with every row counted.
    order: u64,
    /// It was not there when it was last looked for.
    absent: bool,
    /// Nor was it at a moment when its id could be handed out again: to a transaction below this, at the last such moment.
    loose: Option<i64>,
}

/// The saved form of a witness: its fields without their names.
type SavedWitness = (Option<i64>, u32, u64, bool, Option<i64>);

impl From<SavedWitness> for Witness {
    fn from((at, labels, order, absent, loose): SavedWitness) -> Self {
        Self { mark: Mark { at, labels }, order, absent, loose }
    }
}

impl From<Witness> for SavedWitness {
    fn from(Witness { mark: Mark { at, labels }, order, absent, loose }: Witness) -> Self {
        (at, labels, order, absent, loose)
    }
}

/// What changes when another table, sequence or server stands behind the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The system identifier, if the role may know it.
    pub system: Option<String>,
    /// The database's object id.
    pub database: String,
    /// The timeline of a primary, if the role may know it.
    pub timeline: Option<i64>,
    /// When the server was started, in microseconds since the epoch.
    pub started: i64,
    /// The object ids and files of the tables.
    pub relations: String,
    /// The object id and the file of the sequence, if the role may read it.
    pub sequence: Option<(i64, i64)>,
}

/// What a poll sees beside the rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// The stamp now.
    pub stamp: Stamp,
    /// The last id that the sequence handed out, if the role may read it.
    pub last: Option<i64>,
    /// `pg_snapshot_xmin` and `pg_snapshot_xmax`.
    pub xmin: i64,
    /// See [`Evidence::xmin`].
    pub xmax: i64,
    /// The primary's snapshot is older than one that was read before.
    pub xids_fell: bool,
    /// The database's clock, in microseconds since the epoch.
    pub now: i64,
}

/// The witnesses of one source, and the surroundings in which they were last found in place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    witnesses: BTreeMap<i64, Witness>,
    order: u64,
    stamp: Option<Stamp>,
    /// The last number that the sequence was seen to hand out.
    last: Option<i64>,
    /// The witnesses of the table before ids last started again, and the largest id that it had: it can be put back.
    past: BTreeMap<i64, Witness>,
    past_high: Option<i64>,
    /// One that it had handed out before, to transactions below the other number.
    drawn: Option<(i64, i64)>,
    /// The transactions to which ids up to this were handed out have ended; unknown since the sequence went back.
    settled: Option<i64>,
    /// [`Identity::order`] when the sequence last went back.
    back: u64,
    /// The largest one since ids last started again; while the sequence is below, ids come again.
    peak: Option<i64>,
}

/// What follows from the evidence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Rows under these ids (inclusive ranges) are other ones than those that were counted.
    pub forget: Vec<(i64, i64)>,
    /// These ids may be handed out again.
    pub recycle: Vec<(i64, i64)>,
    /// Rows under these ids are in place.
    pub keep: Vec<(i64, i64)>,
    /// The newest time of a counted row, in seconds since the epoch: see [`super::frontier::Frontier::recycle`].
    pub until: f64,
    /// The table from before ids started again is back, with ids up to this one: all of them have been counted.
    pub returned: Option<i64>,
    /// All rows are others, and so is the server.
    pub other_database: bool,
    /// The sequence went back, or rows were found to be others: told once.
    pub is_reset: bool,
    /// Ids of the transactions before mean nothing any more.
    pub other_history: bool,
}

impl Verdict {
    /// True if other rows begin at some id, or those of before are back: the sequence is where it belongs.
    fn ends_open(&self) -> bool {
        self.returned.is_some() || self.forget.iter().any(|(_, hi)| *hi == i64::MAX)
    }
}

/// How a witness was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Same,
    Absent,
    /// Another row, or the same one edited; when it finished.
    Other(Option<i64>),
}

/// A run of witnesses that are not in place, between two that are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// The witness in place below it.
    below: Option<i64>,
    /// The first and the last witness of the run.
    first: i64,
    last: i64,
    /// The witness in place above it.
    above: Option<i64>,
}

/// Whether two things that are known are different.
fn differ<T: PartialEq>(was: &Option<T>, now: &Option<T>) -> bool {
    was.is_some() && now.is_some() && was != now
}

impl Stamp {
    /// Whether nothing that is known of both is different.
    fn agrees(&self, now: &Self) -> bool {
        let known = !differ(&self.system, &now.system)
            && !differ(&self.timeline, &now.timeline)
            && !differ(&self.sequence, &now.sequence);
        known && self.database == now.database && self.started == now.started && self.relations == now.relations
    }

    /// This one, with what only the one before knew.
    fn over(&self, was: Self) -> Self {
        let now = self.clone();
        Self {
            system: now.system.or(was.system),
            timeline: now.timeline.or(was.timeline),
            sequence: now.sequence.or(was.sequence),
            ..now
        }
    }
}

impl Identity {
    /// The ids of the witnesses to look at first: the newest and the smallest.
    pub fn few(&self) -> Vec<i64> {
        let newest = self.witnesses.iter().max_by_key(|(_, witness)| witness.order).map(|(id, _)| *id);
        let smallest = self.witnesses.first_key_value().map(|(id, _)| *id);
        newest.into_iter().chain(smallest.filter(|_| smallest != newest)).collect()
    }

    /// The ids of all witnesses, in order.
    pub fn all(&self) -> Vec<i64> {
        self.witnesses.keys().copied().collect()
    }

    /// Whether a look at the witnesses of [`Identity::few`], and the evidence beside them, call for no look at all.
    pub fn is_undisturbed(&self, evidence: &Evidence, seen: &BTreeMap<i64, Mark>) -> bool {
        let is_same = self.stamp.as_ref().is_some_and(|stamp| stamp.agrees(&evidence.stamp));
        let is_loose = self.witnesses.values().any(|witness| witness.loose.is_some());
        let was_absent = |id: &i64| self.witnesses.get(id).is_none_or(|witness| witness.absent);
        let few = self.few();
        let [newest, rest @ ..] = few.as_slice() else { return false };
        is_same
            && !evidence.xids_fell
            && !is_loose
            && !self.is_behind(evidence)
            && !was_absent(newest)
            && self.status(*newest, seen) == Status::Same
            && rest.iter().all(|id| match self.status(*id, seen) {
                Status::Same => !was_absent(id),
                Status::Absent => true,
                Status::Other(_) => false,
            })
    }

    fn is_behind(&self, evidence: &Evidence) -> bool {
        self.peak.zip(evidence.last).is_some_and(|(peak, last)| last < peak)
    }

    fn status(&self, id: i64, seen: &BTreeMap<i64, Mark>) -> Status {
        let Some(witness) = self.witnesses.get(&id) else { return Status::Absent };
        let is_shared = || self.witnesses.values().filter(|w| w.mark.at == witness.mark.at).nth(1).is_some();
        match seen.get(&id) {
            None => Status::Absent,
            // A time of its own identifies a row; one that it shares does so together with the labels.
            Some(mark) if mark.at == witness.mark.at && (mark.labels == witness.mark.labels || !is_shared()) => {
                Status::Same
            }
            Some(mark) => Status::Other(mark.at),
        }
    }

    /// Whether rows that differ are the same ones, edited: the times of all have moved alike, by one amount or by two
    /// (summer time), and nothing else has changed.
    fn are_moved(&self, seen: &BTreeMap<i64, Mark>) -> bool {
        let (mut times, mut moves) = (BTreeSet::new(), BTreeSet::new());
        let pairs = self.witnesses.iter().filter_map(|(id, witness)| Some((witness.mark, *seen.get(id)?)));
        for (was, is) in pairs.filter(|(was, is)| was != is) {
            let Some((from, to)) = was.at.zip(is.at).filter(|_| was.labels == is.labels) else { return false };
            times.insert(from);
            moves.insert(to.saturating_sub(from));
        }
        (1..=2).contains(&moves.len()) && times.len() >= 3 * moves.len()
    }

    /// Judges by all witnesses that are there; `high` is the largest id that was seen.
    pub fn judge(&mut self, evidence: &Evidence, seen: &BTreeMap<i64, Mark>, high: Option<i64>) -> Verdict {
        let mut verdict = Verdict { until: self.newest(evidence.now), ..Verdict::default() };
        let (behind, last) = (self.is_behind(evidence), evidence.last);
        let (handed_out, settled) = (self.last, self.settled);
        // Since the last poll the sequence can have come past ids that it had not reached then.
        let was_behind = self.peak.zip(self.last).is_some_and(|(peak, last)| last < peak);
        let went_back = self.observe(evidence);
        let was = self.stamp.clone().unwrap_or_else(|| evidence.stamp.clone());
        let now = &evidence.stamp;
        let other_system = differ(&was.system, &now.system);
        let other_sequence = differ(&was.sequence.map(|s| s.0), &now.sequence.map(|s| s.0));
        verdict.other_history = other_system || differ(&was.timeline, &now.timeline) || evidence.xids_fell;
        // Each of these means that ids can have been handed out twice …
        let strong = verdict.other_history || was.database != now.database || other_sequence;
        // … and this that the table can be another one, or have been restored.
        let weak = !was.agrees(now);
        // A rewrite hands out no ids while the sequence goes on. One that gives a column another type moves all times.
        let is_rewrite = Stamp { relations: now.relations.clone(), ..was.clone() }.agrees(now) && !evidence.xids_fell;
        let is_moved = is_rewrite && last.is_some() && !behind && self.are_moved(seen);
        // The sequence has come to an id since the row under it was in place: it was handed out since the last poll, or
        // since the sequence went back, which is below where it was.
        let reissued = |id: i64, witness: &Witness| {
            let is_recent = handed_out.is_some() && Some(id) > handed_out;
            // Or before, to a transaction whose rows nobody could see then; this is none of its rows.
            let is_late = Some(id) > settled && witness.order <= self.back;
            let may_come = behind && (went_back || witness.absent || is_late);
            witness.loose.is_some() || (Some(id) <= last && (is_recent || may_come))
        };

        let statuses: Vec<(i64, Status)> = self.witnesses.keys().map(|&id| (id, self.status(id, seen))).collect();
        let in_place: Vec<i64> = statuses.iter().filter(|s| s.1 == Status::Same).map(|s| s.0).collect();
        let mut is_other = false;
        for run in runs(&statuses) {
            let within = statuses.iter().filter(|(id, _)| (run.first..=run.last).contains(id));
            let others: Vec<(i64, Option<i64>)> = within
                .filter_map(|(id, status)| if let Status::Other(at) = status { Some((*id, *at)) } else { None })
                .collect();
            let (start, end) = run.bounds(high);
            if others.is_empty() {
                // Absent. Ids below a row in place come again only if the sequence is below.
                let may_come = run.is_whole() || behind || (run.above.is_none() && strong);
                verdict.recycle.extend(may_come.then_some((start, end)));
                continue;
            }
            let is_past = |id: &i64| self.past.get(id).is_some_and(|witness| seen.get(id) == Some(&witness.mark));
            if others.iter().filter(|(id, _)| is_past(id)).count() * 2 > others.len() {
                verdict.returned = self.past_high;
                continue;
            }
            // What has no time has not finished yet.
            let newer = |at: &Option<i64>| at.is_none_or(|at| at as f64 / 1e6 > verdict.until);
            let are_newer = others.iter().filter(|(_, at)| newer(at)).count() * 2 > others.len();
            let of_others = |test: &dyn Fn(i64, &Witness) -> bool| {
                others.iter().any(|(id, _)| self.witnesses.get(id).is_some_and(|witness| test(*id, witness)))
            };
            let were_absent = of_others(&|_, witness| witness.absent);
            let is_new = of_others(&reissued)
                || match run.above {
                    None => {
                        strong
                            || (were_absent && (weak || last.is_none()))
                            || (weak
                                && are_newer
                                && (run.is_whole() || others.len() > 1 || differ(&was.sequence, &now.sequence)))
                    }
                    // The sequence was started again, and may have passed the ids by now; or there is none to ask.
                    Some(_) => are_newer && (differ(&was.sequence, &now.sequence) || (were_absent && last.is_none())),
                };
            if is_moved || !is_new {
                continue;
            }
            is_other = true;
            let is_loose = |id: &i64| self.witnesses.get(id).is_some_and(|witness| witness.loose.is_some());
            let are_loose = others.iter().all(|(id, _)| is_loose(id));
            let is_mixed = statuses.iter().any(|(id, _)| (run.first..=run.last).contains(id) && !is_loose(id));
            if are_loose && is_mixed && !strong && !behind {
                // Late ones of ids that came again before: others that are not there now have been counted since.
                verdict.forget.extend(others.iter().map(|(id, _)| (*id, *id)));
                continue;
            }
            if others.iter().all(|(_, at)| at.is_none()) {
                // Not finished: new, or old ones before they finished. That says nothing of the ids around.
                verdict.recycle.push((start, end));
                verdict.forget.extend(others.iter().map(|(id, _)| (*id, *id)));
                continue;
            }
            verdict.other_database = run.is_whole() && other_system;
            // Up to the first other row, nobody remembers which rows were there.
            let (first, last) = (others[0].0, others[others.len() - 1].0);
            verdict.recycle.extend((start < first).then(|| (start, first - 1)));
            if run.above.is_none() {
                verdict.forget.push((first, i64::MAX));
            } else {
                verdict.forget.push((first, last));
                verdict.recycle.extend((last < end).then(|| (last + 1, end)));
            }
        }
        let between = in_place.windows(2).map(|pair| (pair[0], pair[1]));
        verdict.keep = in_place.iter().map(|&id| (id, id)).chain(between).collect();
        // The sequence is past all of them, and so is every transaction that could have drawn one.
        let is_past = last.is_some() && !behind && !strong;
        for witness in self.witnesses.values_mut() {
            let loose = witness.loose.map(|xmax| if was_behind { evidence.xmax } else { xmax });
            witness.loose = loose.filter(|&xmax| !is_past || evidence.xmin < xmax);
        }
        if in_place.len() == statuses.len() {
            verdict.keep.push((i64::MIN, i64::MAX));
        }
        if verdict.returned.is_some() {
            verdict.forget.clear();
            verdict.recycle.clear();
            is_other = true;
        }
        verdict.is_reset = went_back || (is_other && !behind);
        if statuses.is_empty() && behind {
            verdict.recycle.push((i64::MIN, high.unwrap_or(i64::MAX)));
        }
        // From here on ids are new: the sequence is where it belongs.
        if is_other && verdict.ends_open() {
            self.peak = self.last;
            self.keep_past(&verdict, high);
        }
        self.learn(&verdict, &statuses, seen, evidence);
        if !in_place.is_empty() || is_other || statuses.is_empty() {
            self.stamp = Some(now.over(was));
        }
        verdict
    }

    /// Notes where the sequence stands; says whether it went back just now.
    pub fn observe(&mut self, evidence: &Evidence) -> bool {
        let Some(last) = evidence.last else { return false };
        self.peak = self.peak.max(Some(last));
        let went_back = self.last.replace(last).is_some_and(|was| last < was);
        if went_back {
            self.back = self.order;
        }
        if went_back || evidence.xids_fell || self.drawn.is_none_or(|(_, xmax)| xmax <= evidence.xmin) {
            self.settled = self.drawn.map(|drawn| drawn.0).filter(|_| !went_back);
            self.drawn = Some((last, evidence.xmax));
        }
        went_back
    }

    /// Ids above this were handed out to transactions that may still run, or will be handed out.
    pub fn handed_out(&self) -> Option<i64> {
        self.settled.min(self.last).or(self.last)
    }

    /// Puts the witnesses of a table that is gone aside, or takes them back.
    fn keep_past(&mut self, verdict: &Verdict, high: Option<i64>) {
        if verdict.returned.is_some() {
            std::mem::swap(&mut self.witnesses, &mut self.past);
            self.past_high = high;
            return;
        }
        let forgotten = |id: &i64| verdict.forget.iter().any(|(lo, hi)| (lo..=hi).contains(&id));
        self.past = self.witnesses.iter().filter(|(id, _)| forgotten(id)).map(|(id, w)| (*id, *w)).collect();
        self.past_high = high;
    }

    /// Takes over what was found: edits of rows in place, absences; forgets witnesses of rows that are others.
    fn learn(
        &mut self,
        verdict: &Verdict,
        statuses: &[(i64, Status)],
        seen: &BTreeMap<i64, Mark>,
        evidence: &Evidence,
    ) {
        let drawn = self.handed_out();
        for (id, status) in statuses {
            if let Some(witness) = self.witnesses.get_mut(id) {
                witness.absent = *status == Status::Absent;
                // Its id may have been handed out to a transaction that still runs, too.
                let is_drawn = drawn.is_some() && Some(*id) > drawn;
                let may_come = || is_drawn || verdict.recycle.iter().any(|(lo, hi)| (lo..=hi).contains(&id));
                witness.loose = if may_come() { Some(evidence.xmax) } else { witness.loose }.filter(|_| witness.absent);
                if let Some(mark) = seen.get(id) {
                    witness.mark = *mark;
                }
            }
        }
        let forgotten = |id: &i64| verdict.forget.iter().any(|(lo, hi)| (lo..=hi).contains(&id));
        self.witnesses.retain(|id, _| !forgotten(id));
    }

    /// The newest time of a witness that means something, in seconds since the epoch.
    fn newest(&self, now: i64) -> f64 {
        let times = || self.witnesses.values().filter_map(|witness| witness.mark.at);
        let newest = times().filter(|&at| at <= now.saturating_add(NONSENSE)).max().or_else(|| times().max());
        newest.map_or(f64::MIN, |at| at as f64 / 1e6)
    }

    /// Remembers rows that were counted, in the order of their ids.
    pub fn remember(&mut self, rows: Vec<(i64, Mark)>) {
        // Of many, most would go again at once.
        let (few, many) = (SMALLEST, rows.len().saturating_sub(RECENT));
        let step = rows.len() / (MOST - RECENT - SMALLEST) + 1;
        for (i, (id, mark)) in rows.into_iter().enumerate() {
            self.order += 1;
            if i < few || i >= many || i % step == 0 {
                self.witnesses.insert(id, Witness { mark, order: self.order, absent: false, loose: None });
            }
            if self.witnesses.len() > MOST {
                self.thin();
            }
        }
    }

    /// Takes one out: neither one of the newest nor of the smallest, but the one whose neighbours stand closest, measured
    /// by how far they are from the newest.
    fn thin(&mut self) {
        let recent = self.order.saturating_sub(RECENT as u64);
        let ids = self.all();
        let top = ids.last().copied().unwrap_or_default();
        let space = |around: &[i64]| around[0].abs_diff(around[2]) as f64 / (around[1].abs_diff(top) as f64 + 1.0);
        let between = ids.windows(3).skip(SMALLEST - 1);
        let old = between.filter(|around| self.witnesses.get(&around[1]).is_some_and(|w| w.order <= recent));
        let closest = old.min_by(|a, b| space(a).total_cmp(&space(b))).map(|around| around[1]);
        // With none in between all are among the newest or the smallest, which are fewer.
        closest.iter().for_each(|id| _ = self.witnesses.remove(id));
    }
}

impl Run {
    /// Whether no witness at all is in place.
    fn is_whole(&self) -> bool {
        self.below.is_none() && self.above.is_none()
    }

    /// The ids between the witnesses in place, inclusive.
    fn bounds(&self, high: Option<i64>) -> (i64, i64) {
        let start = if self.is_whole() { i64::MIN } else { self.below.map_or(self.first, |id| id.saturating_add(1)) };
        (start, self.above.map_or(high.unwrap_or(i64::MAX), |id| id.saturating_sub(1)))
    }
}

/// The runs of witnesses that are not in place.
fn runs(statuses: &[(i64, Status)]) -> Vec<Run> {
    let (mut runs, mut below): (Vec<Run>, Option<i64>) = (Vec::new(), None);
    for group in statuses.chunk_by(|a, b| (a.1 == Status::Same) == (b.1 == Status::Same)) {
        if group[0].1 == Status::Same {
            if let Some(run) = runs.last_mut().filter(|run| run.above.is_none()) {
                run.above = Some(group[0].0);
            }
            below = Some(group[group.len() - 1].0);
        } else {
            runs.push(Run { below, first: group[0].0, last: group[group.len() - 1].0, above: None });
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(at: i64) -> Mark {
        Mark { at: Some(at * 1_000_000), labels: 0 }
    }

    fn evidence(last: i64) -> Evidence {
        let stamp = Stamp { sequence: Some((1, 1)), ..Stamp::default() };
        Evidence { stamp, last: Some(last), xmin: 1, xmax: 2, xids_fell: false, now: 1_000_000_000 }
    }

    /// Rows 1 to `n`, finished at 1 to `n`.
    fn rows(n: i64) -> BTreeMap<i64, Mark> {
        (1..=n).map(|id| (id, mark(id))).collect()
    }

    fn of(rows: &BTreeMap<i64, Mark>) -> Identity {
        let mut identity = Identity::default();
        identity.remember(rows.iter().map(|(id, mark)| (*id, *mark)).collect());
        let high = rows.last_key_value().map(|(id, _)| *id);
        let verdict = identity.judge(&evidence(high.unwrap_or(0)), rows, high);
        assert_eq!((verdict.forget, verdict.recycle, verdict.is_reset), (vec![], vec![], false));
        identity
    }

    #[test]
    fn a_quiet_table_is_asked_for_its_newest_and_its_smallest_row() {
        let (rows, mut identity) = (rows(10), of(&rows(10)));
        assert_eq!(identity.few(), [10, 1]);
        assert!(identity.is_undisturbed(&evidence(10), &rows));
        assert!(!identity.is_undisturbed(&evidence(9), &rows), "the sequence is below");
        let mut restarted = evidence(10);
        restarted.stamp.started = 7;
        assert!(!identity.is_undisturbed(&restarted, &rows));
        identity.judge(&restarted, &rows, Some(10));
        assert!(identity.is_undisturbed(&restarted, &rows), "all in place: nothing has happened");
    }

    #[test]
    fn rows_in_place_say_more_than_files_sequences_and_servers() {
        let mut identity = of(&rows(10));
        let mut all = evidence(3);
        all.stamp = Stamp {
            system: Some("2".into()),
            database: "x".into(),
            timeline: Some(3),
            started: 1,
            relations: "y".into(),
            sequence: Some((7, 7)),
        };
        all.xids_fell = true;
        let verdict = identity.judge(&all, &rows(10), Some(10));
        assert_eq!((verdict.forget, verdict.other_database), (vec![], false));
    }

    #[test]
    fn absence_forgets_nothing_and_edits_without_other_evidence_neither() {
        let mut identity = of(&rows(10));
        let verdict = identity.judge(&evidence(10), &BTreeMap::new(), Some(10));
        assert_eq!((verdict.forget, verdict.recycle), (vec![], vec![(i64::MIN, 10)]));
        let mut identity = of(&rows(10));
        let edited: BTreeMap<i64, Mark> = (1..=10).map(|id| (id, mark(100 + id))).collect();
        assert_eq!(identity.judge(&evidence(10), &edited, Some(10)).forget, []);
        assert_eq!(identity.judge(&evidence(10), &edited, Some(10)).keep.last(), Some(&(i64::MIN, i64::MAX)));
    }

    #[test]
    fn in_place_up_to_some_id_what_is_above_comes_again() {
        let mut identity = of(&rows(10));
        let mut now = rows(6);
        now.extend([(7, mark(20)), (8, mark(21))]);
        let verdict = identity.judge(&evidence(8), &now, Some(10));
        assert_eq!((verdict.forget, verdict.recycle, verdict.is_reset), (vec![(7, i64::MAX)], vec![], true));
        assert!(identity.is_undisturbed(&evidence(8), &now), "ids go on from here");
    }

    #[test]
    fn times_that_all_moved_alike_in_a_rewrite_are_edits() {
        let rewritten = Evidence { stamp: Stamp { relations: "x".into(), ..evidence(10).stamp }, ..evidence(10) };
        let moved: BTreeMap<i64, Mark> = (1..=10).map(|id| (id, mark(3_600 + id))).collect();
        let mut identity = of(&rows(10));
        let verdict = identity.judge(&rewritten, &moved, Some(10));
        assert_eq!((verdict.forget, verdict.recycle, verdict.is_reset), (vec![], vec![], false));
        assert_eq!(identity.judge(&rewritten, &moved, Some(10)).keep.last(), Some(&(i64::MIN, i64::MAX)));
        // Others do not keep the distances; and where ids were handed out again, equal distances mean nothing.
        let others: BTreeMap<i64, Mark> = (1..=10).map(|id| (id, mark(3_600 + id * id))).collect();
        assert_eq!(of(&rows(10)).judge(&rewritten, &others, Some(10)).forget, [(1, i64::MAX)]);
        let mut emptied = rewritten;
        emptied.stamp.sequence = Some((1, 2));
        assert_eq!(of(&rows(10)).judge(&emptied, &moved, Some(10)).forget, [(1, i64::MAX)]);
    }

    #[test]
    fn a_sequence_is_ahead_of_the_rows_of_a_transaction_that_is_open() {
        let at = |last, xmin, xmax| Evidence { xmin, xmax, ..evidence(last) };
        let others: BTreeMap<i64, Mark> = (2..=8).map(|id| (id, mark(50 + id))).collect();
        for looks in 1..4 {
            let mut identity = of(&rows(10));
            identity.judge(&at(8, 5, 6), &rows(10), Some(10));
            (1..looks).for_each(|i| _ = identity.judge(&at(8, 5, 6 + i), &rows(10), Some(10)));
            let verdict = identity.judge(&at(8, 20, 21), &others, Some(10));
            assert_eq!(verdict.forget, [(2, i64::MAX)], "{looks}");
        }
        // Long after every such transaction has ended, other rows are the same ones, edited.
        let mut identity = of(&rows(10));
        (0..3).for_each(|i| _ = identity.judge(&at(8, 5 + i, 6 + i), &rows(10), Some(10)));
        assert_eq!(identity.judge(&at(8, 20, 21), &others, Some(10)).forget, []);
    }

    #[test]
    fn a_table_with_other_rows_only_is_counted_as_a_whole() {
        let mut identity = of(&rows(10));
        let empty = identity.judge(&evidence(0), &BTreeMap::new(), Some(10));
        assert_eq!((empty.forget, empty.is_reset), (vec![], true));
        let verdict = identity.judge(&evidence(2), &[(2, mark(50))].into(), Some(10));
        assert_eq!((verdict.forget, verdict.is_reset), (vec![(2, i64::MAX)], false));
    }

    #[test]
    fn a_table_that_was_truncated_by_mistake_and_put_back_is_known() {
        let mut identity = of(&rows(10));
        let verdict = identity.judge(&evidence(2), &[(1, mark(50)), (2, mark(51))].into(), Some(10));
        assert_eq!(verdict.forget, [(1, i64::MAX)]);
        identity.remember(vec![(1, mark(50)), (2, mark(51))]);
        let seen: BTreeMap<i64, Mark> = rows(10).into_iter().filter(|(id, _)| *id <= 2).collect();
        let verdict = identity.judge(&evidence(10), &seen, Some(2));
        assert_eq!((verdict.forget, verdict.recycle, verdict.returned), (vec![], vec![], Some(10)));
        assert_eq!(identity.all(), (1..=10).collect::<Vec<_>>());
        assert_eq!(identity.judge(&evidence(11), &rows(10), Some(10)).forget, []);
    }

    #[test]
    fn a_cycle_comes_again_from_the_smallest() {
        let mut identity = of(&rows(10));
        let mut now: BTreeMap<i64, Mark> = (7..=10).map(|id| (id, mark(id))).collect();
        identity.judge(&evidence(10), &now, Some(10));
        now.extend([(1, mark(30)), (2, mark(31))]);
        let verdict = identity.judge(&evidence(2), &now, Some(10));
        assert_eq!((verdict.forget, verdict.recycle), (vec![(1, 2)], vec![(3, 6)]));
    }

    #[test]
    fn without_a_sequence_rows_that_were_gone_and_are_others_are_new() {
        let mut identity = of(&rows(10));
        let silent = Evidence { last: None, stamp: Stamp::default(), ..evidence(0) };
        identity.judge(&silent, &BTreeMap::new(), Some(10));
        assert_eq!(identity.judge(&silent, &rows(5), Some(10)).forget, [], "the same rows came back");
        identity.judge(&silent, &BTreeMap::new(), Some(10));
        let verdict = identity.judge(&silent, &[(1, mark(40))].into(), Some(10));
        assert_eq!(verdict.forget, [(1, i64::MAX)]);
    }

    #[test]
    fn witnesses_are_few_and_the_newest_and_the_smallest_are_among_them() {
        let mut identity = Identity::default();
        (0..10).for_each(|i| identity.remember((1..=100_000).map(|n| (i * 100_000 + n, mark(n))).collect()));
        let all = identity.all();
        assert!(all.len() == MOST, "{}", all.len());
        assert!((1..=SMALLEST as i64).all(|id| all.contains(&id)));
        assert!((1_000_000 - RECENT as i64 + 1..=1_000_000).all(|id| all.contains(&id)));
        // What was lost is known to have begun within half of its length.
        let far = |pair: &[i64]| pair[1] - pair[0] <= 2 * RECENT as i64 + (1_000_000 - pair[0]) / 2;
        assert!(all[SMALLEST + 1..].windows(2).all(far), "{all:?}");
    }
}
