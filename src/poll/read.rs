//! One transaction: what the ledgers ask for, read in one snapshot and applied.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::time::{Duration, Instant};

use super::{MIN_LIMIT, Poller, Tracked, failing};
use crate::ledger::evidence::Evidence;
use crate::ledger::frontier::{Range, ReadPlan, Sighting};
use crate::ledger::missing::Moment;
use crate::ledger::witness::Mark;
use crate::ledger::{Applied, ApplyError, Group, IdReset, Seen};
use crate::postgres::{Checking, Demand, Failure, Opening, Position, Reason, ServerId, Session, is_other};
use crate::source::Source;

/// A transaction begins again so often when a table was rewritten after its snapshot was taken.
const ATTEMPTS: u32 = 5;
/// A statement that looks for ids passes about this many at most.
const LOOK: usize = 100_000;
/// Nor does it look into more ranges than this.
const LOOK_RANGES: usize = 5_000;
/// Ranges of more ids than this are looked into for the first few rows at first.
const WIDE: usize = 1_000;
/// So many.
const FEW: usize = 20;

/// What a source answered, and what it was asked.
struct Answer {
    plan: ReadPlan,
    groups: Vec<Group>,
    watched: Option<(Sighting, Vec<Seen>)>,
    recount: Option<(ReadPlan, Vec<Group>)>,
    /// Rows that cannot be read and could before, or are new, and why one of them cannot.
    failing: (Vec<i64>, Option<Failure>),
    judgement: IdReset,
    /// How long it took to read the rows.
    took: Duration,
}

/// What is the same for all sources of a transaction.
struct Ask<'a> {
    opening: &'a Opening,
    server: &'a ServerId,
    /// The primary's snapshot is older than one that was read before.
    xids_fell: bool,
    at: Moment,
    gap_watch: i64,
    /// Whether to look for open and missing ids, too, or only at the tail.
    is_full: bool,
}

impl Poller {
    /// Reads some sources in one snapshot and applies the answers; returns those of which there is more to read. Open
    /// and missing ids are only looked for if it `is_full`.
    pub(super) async fn read(
        &mut self,
        which: &[usize],
        is_full: bool,
        failures: &mut [Option<Failure>],
    ) -> Result<Vec<usize>, Failure> {
        let was = self.session.as_ref().map(|session| session.name().to_owned());
        let (mut session, mut opening) = self.session().await?;
        let mut attempt = 1;
        let answers = loop {
            match self.ask(&mut session, &opening, which, is_full, attempt < ATTEMPTS).await? {
                Some(answers) => break answers,
                None => session.batch("ROLLBACK").await?,
            }
            attempt += 1;
            opening = session.begin().await?;
        };
        if was.as_deref() != Some(session.name()) {
            let version = session.one("SELECT current_setting('server_version')").await?;
            let version = version.try_get(0).map_err(|e| Failure::of_query(&e))?;
            self.published.reads_from(version, opening.position.standby);
        }
        let age = session.snapshot_age(&opening).await?;
        session.end().await?;
        self.session = Some(session);

        self.metrics.snapshot_age(age);
        let at = moment(&opening);
        let gap_watch = self.gap_watch();
        let mut more = Vec::new();
        for (&i, answer) in which.iter().zip(answers) {
            let tracked = &mut self.tracked[i];
            if let Ok(answer) = &answer {
                self.announcer.judged(&tracked.source, answer.judgement);
                self.announcer.failing(&tracked.source, &answer.failing.0, answer.failing.1.as_ref());
                self.metrics.rows_failed(&tracked.source, answer.failing.0.len());
            }
            let took = answer.as_ref().map_or(Duration::ZERO, |answer| answer.took);
            let result = answer.and_then(|answer| tracked.take(answer, at, gap_watch));
            match &result {
                Ok(applied) => {
                    tracked.read_at = opening.clock;
                    tracked.adapt(took, self.chunk, applied.more);
                    self.announcer.applied(&tracked.source, applied);
                    if applied.more {
                        self.announcer.progress(&tracked.source, &tracked.ledger);
                        more.push(i);
                    }
                }
                Err(failure) if failure.reason == Reason::Timeout => {
                    tracked.limit = (tracked.limit / 4).max(MIN_LIMIT);
                }
                Err(_) => {}
            }
            self.announcer.source(&tracked.source, &tracked.ledger, result.as_ref().err());
            if let Err(failure) = &result {
                self.metrics.failed(failure.reason);
            }
            failures[i] = result.err();
        }
        self.position = opening.position;
        self.read_at = opening.clock;
        Ok(more)
    }

    /// The connection with its transaction open: the one of the last poll as long as its server is what it was, else a
    /// new one to a server that does not lag.
    async fn session(&mut self) -> Result<(Session, Opening), Failure> {
        if let Some(session) = self.session.take().filter(|session| !session.is_over()) {
            let opening = session.begin().await?;
            if session.fits(&opening.position) {
                return Ok((session, opening));
            }
            tracing::info!(server = session.name(), "left: it is no longer what target_session_attrs asks for");
        }
        let demand = NotBehind { identity: self.identity.as_deref(), last: &self.position };
        let session = self.target.connect_if(&demand).await?;
        let opening = session.begin().await?;
        Ok((session, opening))
    }

    /// Asks the sources in a transaction that has begun; nothing if it is to begin again, which it `may`.
    async fn ask(
        &mut self,
        session: &mut Session,
        opening: &Opening,
        which: &[usize],
        is_full: bool,
        may_begin_again: bool,
    ) -> Result<Option<Vec<Result<Answer, Failure>>>, Failure> {
        let server = session.server(opening).await?;
        self.identify(&server);
        self.is_ahead(opening)?;
        let (now, last) = (&opening.position, &self.position);
        let ask = Ask {
            opening,
            server: &server,
            xids_fell: !now.standby && !last.standby && now.xmax < last.xmax,
            at: moment(opening),
            gap_watch: self.gap_watch(),
            is_full,
        };
        let mut answers = Vec::with_capacity(which.len());
        for &i in which {
            let tracked = &mut self.tracked[i];
            let source = tracked.source.clone();
            let answer =
                session.part(&source, async |session| tracked.ask(session, &ask, may_begin_again).await).await?;
            answers.push(match answer {
                Ok(None) => return Ok(None),
                Ok(Some(answer)) => Ok(answer),
                Err(failure) => Err(failure),
            });
        }
        Ok(Some(answers))
    }

    fn gap_watch(&self) -> i64 {
        i64::try_from(self.poll.gap_watch.as_millis()).unwrap_or(i64::MAX)
    }

    /// Notes which database this is. Whether its rows are those that were counted, they tell themselves.
    fn identify(&mut self, server: &ServerId) {
        let identity = server.identity();
        if self.identity.as_ref().is_some_and(|was| is_other(was, &identity)) {
            tracing::warn!(
                was = self.identity,
                now = identity,
                "this is another database: rows that were counted are looked for in it"
            );
            self.position = crate::postgres::Position::default();
        }
        if self.identity.as_ref() != Some(&identity) {
            self.identity = Some(identity);
        }
    }

    /// A standby that lags would un-see what has been counted, and miss what is asked for.
    fn is_ahead(&self, opening: &Opening) -> Result<(), Failure> {
        let (now, last) = (&opening.position, &self.position);
        if now.is_behind(last) { Err(behind(now, last)) } else { Ok(()) }
    }
}

fn moment(opening: &Opening) -> Moment {
    Moment { now: (opening.clock * 1000.0) as i64, xmin: opening.position.xmin, xmax: opening.position.xmax }
}

/// A server of the same database may not lag behind what was read last.
struct NotBehind<'a> {
    identity: Option<&'a str>,
    last: &'a Position,
}

impl Demand for NotBehind<'_> {
    fn check<'a>(&'a self, session: &'a Session) -> Checking<'a> {
        Box::pin(async {
            let Some(identity) = self.identity else { return Ok(()) };
            let position = session.begin().await?.position;
            let is_same = !is_other(identity, &session.who().await?.identity());
            session.end().await?;
            if is_same && position.is_behind(self.last) { Err(behind(&position, self.last)) } else { Ok(()) }
        })
    }
}

/// Without numbers in the message: the log has a line for each new text.
fn behind(now: &Position, last: &Position) -> Failure {
    let numbers = format!("xmin {}, xmax {}; last xmin {}, xmax {}", now.xmin, now.xmax, last.xmin, last.xmax);
    let failure =
        Failure::new(Reason::Behind, "the standby lags: its snapshot is older than the last one that was read");
    Failure { detail: Some(numbers), ..failure }.losing()
}

impl Tracked {
    /// Reads what the ledger asks for; nothing if the transaction is to begin again.
    async fn ask(
        &mut self,
        session: &mut Session,
        ask: &Ask<'_>,
        may_begin_again: bool,
    ) -> Result<Option<Answer>, Failure> {
        session.prepare(&self.source).await?;
        // This locks the tables. The sequence comes after them: TRUNCATE … RESTART IDENTITY locks in this order too, and in
        // the other one both could wait for each other.
        let first = witnesses(session, &self.source, &self.ledger.witnesses()).await?;
        let (evidence, is_rewritten) = session.evidence(&self.source, ask.opening, ask.server).await?;
        if is_rewritten && may_begin_again {
            return Ok(None);
        }
        let evidence = Evidence { xids_fell: ask.xids_fell, ..evidence };
        let judgement = self.judge(session, &first, &evidence, ask.at).await?;
        let (mut failing, mut failure) = (Vec::new(), None);
        let watched = if ask.is_full {
            let watch = self.ledger.watch(ask.at.now, ask.gap_watch, session.tables(&self.source));
            let ranges = self.failing.cut_out(watch.ranges.clone());
            let seen = look(session, &self.source, ranges, &mut failing, &mut failure).await?;
            Some((self.ledger.sort(&watch, &seen).map_err(|e| self.wrong(&e))?, seen))
        } else {
            None
        };
        let found = watched.as_ref().map_or(&[][..], |(sighting, _)| &sighting.found);
        let mut plan = self.ledger.plan(found, self.limit);
        let (source, limit): (&Source, _) = (&self.source, self.limit);
        let session = &*session;
        let started = Instant::now();
        let some =
            |ranges| async move { session.read(source, &ReadPlan { ranges, limit, ..ReadPlan::default() }).await };
        let part = failing::read(session, source, &plan.ranges, limit, some).await?;
        plan.is_partial = part.is_cut || part.is_partial && !self.ledger.is_complete();
        failing.extend(&part.failing);
        (plan.failing, failure) = (part.failing, failure.or(part.failure));
        let groups = part.rows;
        let took = started.elapsed();
        let recount = match self.ledger.plan_recount(self.limit) {
            Some(plan) => Some((plan.clone(), session.read(&self.source, &plan).await?)),
            None => None,
        };
        let mut failing = self.failing.note(&failing);
        failing.retain(|&id| !self.ledger.frontier().is_counted(id));
        Ok(Some(Answer { plan, groups, watched, recount, failing: (failing, failure), judgement, took }))
    }

    /// Looks at rows that were counted, whether they are still the same ones; at all of them if the first ones call for
    /// that.
    async fn judge(
        &mut self,
        session: &Session,
        first: &BTreeMap<i64, Mark>,
        evidence: &Evidence,
        at: Moment,
    ) -> Result<IdReset, Failure> {
        if self.ledger.is_undisturbed(evidence, first) {
            Arc::make_mut(&mut self.ledger).observe(evidence);
            return Ok(IdReset::None);
        }
        let seen = witnesses(session, &self.source, &self.ledger.all_witnesses()).await?;
        Ok(Arc::make_mut(&mut self.ledger).judge(evidence, &seen, at))
    }

    fn take(&mut self, answer: Answer, at: Moment, gap_watch: i64) -> Result<Applied, Failure> {
        let Answer { plan, groups, watched, recount, .. } = answer;
        // What can be refused is, before anything changes.
        let mut ledger = (*self.ledger).clone();
        let watched = watched.as_ref().map(|(sighting, seen)| (sighting, &seen[..]));
        let mut applied = ledger.apply(&plan, watched, groups, at).map_err(|e| self.wrong(&e))?;
        if let Some((plan, groups)) = recount {
            ledger.apply_recount(&plan, groups).map_err(|e| self.wrong(&e))?;
            applied.more |= ledger.plan_recount(1).is_some();
        }
        ledger.age(at, gap_watch);
        self.ledger = Arc::new(ledger);
        Ok(applied)
    }

    fn wrong(&self, error: &ApplyError) -> Failure {
        Failure::new(Reason::Duplicate, format!("{}.sql: {error}", self.source.name))
    }

    /// Reads more rows at once when that is quick, fewer when it is slow.
    fn adapt(&mut self, took: Duration, chunk: Duration, full: bool) {
        if took > chunk {
            self.limit = (self.limit / 2).max(MIN_LIMIT);
        } else if full && took < chunk / 3 {
            self.limit = (self.limit * 2).min(super::MAX_LIMIT);
        }
    }
}

/// Counted rows that are looked at; one that cannot be read is as good as gone.
async fn witnesses(session: &Session, source: &Source, ids: &[i64]) -> Result<BTreeMap<i64, Mark>, Failure> {
    let some = |ranges: Vec<Range>| async move {
        let ids: Vec<i64> = ranges.iter().map(|range| range.0).collect();
        session.witnesses(source, &ids).await.map(|marks| marks.into_iter().collect())
    };
    let ranges: Vec<Range> = ids.iter().map(|&id| (id, id, None)).collect();
    Ok(failing::read(session, source, &ranges, 2, some).await?.rows.into_iter().collect())
}

/// Looks which ids of a watch are there, in statements that each are quick.
///
/// Most wide ranges hold no row or few: many of them are looked into at once, and what is in there is left for later.
async fn look(
    session: &Session,
    source: &Source,
    ranges: Vec<(i64, i64)>,
    failing: &mut Vec<i64>,
    failure: &mut Option<Failure>,
) -> Result<Vec<Seen>, Failure> {
    let mut look_into = async |ranges: &[(i64, i64)], limit| {
        let some = |ranges: Vec<Range>| async move {
            let ranges: Vec<_> = ranges.iter().map(|range| (range.0, range.1)).collect();
            session.seen(source, &ranges, limit).await
        };
        let ranges: Vec<Range> = ranges.iter().map(|&(lo, hi)| (lo, hi, None)).collect();
        let part = failing::read(session, source, &ranges, limit, some).await?;
        failing.extend(part.failing);
        *failure = failure.take().or(part.failure);
        Ok::<_, Failure>(part.rows)
    };
    let (wide, narrow): (Vec<_>, Vec<_>) = ranges.iter().partition(|range| width(range) > WIDE);
    let (mut all, mut left) = (Vec::new(), VecDeque::from(narrow));
    for ranges in wide.chunks(LOOK_RANGES) {
        let seen = look_into(ranges, FEW).await?;
        left.extend(unread(ranges, &seen, FEW));
        all.extend(seen);
    }
    while !left.is_empty() {
        let (mut ranges, mut all_widths) = (Vec::new(), 0);
        while ranges.len() < LOOK_RANGES
            && all_widths < LOOK
            && let Some(range) = left.pop_front()
        {
            all_widths += width(&range);
            ranges.push(range);
        }
        let seen = look_into(&ranges, LOOK).await?;
        unread(&ranges, &seen, LOOK).into_iter().rev().for_each(|range| left.push_front(range));
        all.extend(seen);
    }
    Ok(all)
}

/// How many ids a range has, as far as that matters.
fn width(&(lo, hi): &(i64, i64)) -> usize {
    usize::try_from(lo.abs_diff(hi)).unwrap_or(LOOK).min(LOOK)
}

/// What is left of ranges that came back with as many rows as were allowed: what is behind their last one.
fn unread(ranges: &[(i64, i64)], seen: &[Seen], limit: usize) -> Vec<(i64, i64)> {
    let mut ids: Vec<i64> = seen.iter().flat_map(|seen| seen.ids.iter().copied()).collect();
    ids.sort_unstable();
    let behind = |&(lo, hi): &(i64, i64)| {
        let inside = &ids[ids.partition_point(|&id| id < lo)..ids.partition_point(|&id| id <= hi)];
        let last = inside.last().filter(|_| inside.len() >= limit)?;
        last.checked_add(1).filter(|&next| next <= hi).map(|next| (next, hi))
    };
    ranges.iter().filter_map(behind).collect()
}

#[cfg(test)]
mod tests {
    use super::{Seen, unread};

    #[test]
    fn ranges_that_came_back_full_go_on_behind_their_last_row() {
        let seen = |ids: &[i64]| Seen { ids: ids.to_vec(), ..Seen::default() };
        let ranges = [(1, 9), (10, 12), (20, i64::MAX), (-5, -1)];
        let answer = [seen(&[30, 2, 12]), seen(&[11, 4, 25, -5])];
        assert_eq!(unread(&ranges, &answer, 2), [(5, 9), (31, i64::MAX)], "12 is the last one of its range");
    }
}
