//! One transaction: what the ledgers ask for, read in one snapshot and applied.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::{Duration, Instant};

use super::at_once::AtOnce;
use super::failing;
use super::look::look;
use super::{Poller, Tracked, read_keyed};
use crate::ledger::evidence::Evidence;
use crate::ledger::frontier::{Range, ReadPlan, Sighting, Watch};
use crate::ledger::missing::Moment;
use crate::ledger::witness::Mark;
use crate::ledger::{Applied, ApplyError, Group, IdReset, Seen};
use crate::postgres::{Failure, Opening, Reason, ServerId, Session, definition, is_other};
use crate::source::Source;
use crate::source::key::Key;

/// A transaction begins again so often when a table was rewritten after its snapshot was taken.
const ATTEMPTS: u32 = 5;

/// What a source answered, and what it was asked.
struct Answer {
    plan: ReadPlan,
    groups: Vec<Group>,
    watched: Option<(Sighting, Vec<Seen>)>,
    recount: Option<(ReadPlan, Vec<Group>)>,
    /// Rows that cannot be read and could before, or are new, and why one of them cannot.
    failing: (Vec<i64>, Option<Failure>),
    judgement: IdReset,
    /// What was found by keys, in place of all that.
    keyed: Option<read_keyed::Answer>,
    /// How long it took to read the rows, or those that are read again.
    took: Duration,
}

/// What one transaction gave.
pub(super) struct Answers {
    opening: Opening,
    /// By source, in the order in which they were asked.
    answers: Vec<(usize, Result<Answer, Failure>)>,
}

/// What is the same for all sources of a transaction.
struct Ask<'a> {
    opening: &'a Opening,
    server: &'a ServerId,
    /// The primary's snapshot is older than one that was read before.
    xids_fell: bool,
    at: Moment,
    gap_watch: i64,
    /// True to look for open and missing ids, too, or only at the tail.
    is_full: bool,
}

impl Poller {
    /// Reads some sources in one snapshot. Open and missing ids are only looked for if it `is_full`.
    pub(super) async fn read(&mut self, which: &[usize], is_full: bool) -> Result<Answers, Failure> {
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
            let version = session.query_one("SELECT current_setting('server_version')").await?;
            let version = version.get(0)?;
            self.published.reads_from(version, opening.position.standby);
        }
        let age = session.snapshot_age(&opening).await?;
        session.end().await?;
        self.session = Some(session);

        self.metrics.snapshot_age(age);
        Ok(Answers { opening, answers: which.iter().copied().zip(answers).collect() })
    }

    /// Applies answers to the ledgers: for each, true if there is more to read, or why it could not be counted.
    pub(super) fn apply(&mut self, Answers { opening, answers }: Answers) -> Vec<Result<bool, Failure>> {
        let outcomes = answers.into_iter().map(|(i, answer)| self.apply_one(i, answer, &opening)).collect();
        self.position = opening.position;
        self.read_at = opening.clock;
        outcomes
    }

    fn apply_one(&mut self, i: usize, answer: Result<Answer, Failure>, opening: &Opening) -> Result<bool, Failure> {
        let gap_watch = self.gap_watch();
        let tracked = &mut self.tracked[i];
        if let Ok(answer) = &answer {
            self.change_log.judged(&tracked.source, answer.judgement);
            self.change_log.failing(&tracked.source, &answer.failing.0, answer.failing.1.as_ref());
            self.metrics.rows_failed(&tracked.source, answer.failing.0.len());
            if let Some(keyed) = &answer.keyed {
                self.change_log.keyed(&tracked.source, keyed);
                self.metrics.rows_failed(&tracked.source, keyed.newly_failing);
            }
        }
        let took = answer.as_ref().map_or(Duration::ZERO, |answer| answer.took);
        let result = answer.and_then(|answer| tracked.take(answer, moment(opening), gap_watch));
        match &result {
            Ok(applied) => {
                tracked.read_at = opening.clock;
                tracked.chunk.adapt(took, applied.more);
                self.change_log.applied(&tracked.source, applied);
                if applied.more {
                    self.change_log.progress(&tracked.source, &tracked.ledger);
                }
            }
            Err(failure) if failure.reason == Reason::Timeout => {
                // The server answers: it is the statement that takes so long.
                tracked.is_slow |= !failure.connection_lost;
                tracked.chunk.timed_out();
            }
            Err(_) => {}
        }
        self.change_log.source(&tracked.source, &tracked.ledger, result.as_ref().err());
        if let Err(failure) = &result {
            self.metrics.failed(failure.reason);
        }
        result.map(|applied| applied.more)
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
            let answer = session
                .with_savepoint(&source, async |session| tracked.ask(session, &ask, may_begin_again).await)
                .await?;
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
}

fn moment(opening: &Opening) -> Moment {
    Moment { now: (opening.clock * 1000.0) as i64, xmin: opening.position.xmin, xmax: opening.position.xmax }
}

impl Tracked {
    /// Reads what the ledger asks for; nothing if the transaction is to begin again.
    async fn ask(
        &mut self,
        session: &mut Session,
        ask: &Ask<'_>,
        may_begin_again: bool,
    ) -> Result<Option<Answer>, Failure> {
        definition::prepare(session, &self.source).await?;
        if let Some(key) = self.source.clone().key.as_ref() {
            return self.ask_keyed(session, key, ask, may_begin_again).await;
        }
        // This locks the tables. The sequence comes after them: TRUNCATE … RESTART IDENTITY locks in this order too, and in
        // the other one both could wait for each other.
        let watch = ask.is_full.then(|| self.watch(session, ask));
        let mut at_once = self.at_once(session, watch.as_ref()).await?;
        let first = match &mut at_once {
            Some(at_once) => std::mem::take(&mut at_once.witnesses),
            None => witnesses(session, &self.source, &self.ledger.witnesses()).await?,
        };
        let (evidence, is_rewritten) = session.evidence(&self.source, ask.opening, ask.server).await?;
        if is_rewritten && may_begin_again {
            return Ok(None);
        }
        let evidence = Evidence { xids_fell: ask.xids_fell, ..evidence };
        let before = self.ledger.clone();
        let judgement = self.judge(session, &first, &evidence, ask.at).await?;
        // If so, what was asked before the judgement is what would be asked after it.
        let is_as_before = before.frontier() == self.ledger.frontier();
        if let Some(AtOnce { watched, groups, took, .. }) = at_once.filter(|_| is_as_before) {
            let found = watched.as_ref().map_or(&[][..], |(sighting, _)| &sighting.found);
            let plan = self.ledger.plan(found, self.chunk.rows());
            self.failing.note(&[]);
            let (recount, again) = self.read_again(session).await?;
            let failing = (Vec::new(), None);
            let took = took.max(again);
            return Ok(Some(Answer { plan, groups, watched, recount, failing, judgement, keyed: None, took }));
        }
        let (mut failing, mut failure) = (Vec::new(), None);
        let watched = if let Some(watch) = watch {
            let watch = if is_as_before { watch } else { self.watch(session, ask) };
            let ranges = self.failing.cut_out(watch.ranges.clone());
            let seen = look(session, &self.source, ranges).await?;
            (failing, failure) = (seen.failing, seen.failure);
            Some((self.ledger.sort(&watch, &seen.rows).map_err(|e| self.wrong(&e))?, seen.rows))
        } else {
            None
        };
        let found = watched.as_ref().map_or(&[][..], |(sighting, _)| &sighting.found);
        let mut plan = self.ledger.plan(found, self.chunk.rows());
        let (source, limit): (&Source, _) = (&self.source, self.chunk.rows());
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
        let (recount, again) = self.read_again(session).await?;
        let took = took.max(again);
        let mut failing = self.failing.note(&failing);
        failing.retain(|&id| !self.ledger.frontier().is_counted(id));
        let failing = (failing, failure);
        Ok(Some(Answer { plan, groups, watched, recount, failing, judgement, keyed: None, took }))
    }

    /// The same by keys.
    async fn ask_keyed(
        &mut self,
        session: &mut Session,
        key: &Key,
        ask: &Ask<'_>,
        may_begin_again: bool,
    ) -> Result<Option<Answer>, Failure> {
        session.witnesses(&self.source, &[]).await?;
        let (_, is_rewritten) = session.evidence(&self.source, ask.opening, ask.server).await?;
        if is_rewritten && may_begin_again {
            return Ok(None);
        }
        let mut judgement = IdReset::None;
        if key.is_by_xid() {
            let (was, now) = (self.ledger.keys().server().map(str::to_owned), ask.server.identity());
            if was.is_some_and(|was| is_other(&was, &now)) {
                judgement = Arc::make_mut(&mut self.ledger).begin_again();
            } else if ask.xids_fell {
                tracing::warn!(
                    source = self.source.name,
                    "the server gives ids of transactions again, as after a failover that lost some: rows that were inserted \
                     since, before this poll, can be missed"
                );
            }
        }
        let of_keys = read_keyed::Ask {
            source: &self.source,
            key,
            window: self.ledger.keys(),
            clock: ask.opening.clock,
            is_full: ask.is_full,
            checks: ask.is_full && self.ledger.is_complete(),
            limit: self.chunk.rows(),
        };
        let mut keyed = of_keys.read(session, &mut self.failing_keys).await?;
        keyed.sweep.server = key.is_by_xid().then(|| ask.server.identity());
        Ok(Some(Answer {
            plan: ReadPlan::default(),
            groups: Vec::new(),
            watched: None,
            recount: None,
            failing: (Vec::new(), None),
            judgement,
            took: keyed.took,
            keyed: Some(keyed),
        }))
    }

    /// Which open and missing ids to look for.
    fn watch(&self, session: &Session, ask: &Ask<'_>) -> Watch {
        self.ledger.watch(ask.at.now, ask.gap_watch, session.tables(&self.source))
    }

    /// Counted rows that are read once more for new metrics, and how long that took.
    async fn read_again(&self, session: &Session) -> Result<(Option<(ReadPlan, Vec<Group>)>, Duration), Failure> {
        let Some(plan) = self.ledger.plan_recount(self.chunk.rows()) else { return Ok((None, Duration::ZERO)) };
        let started = Instant::now();
        let groups = session.read(&self.source, &plan).await?;
        Ok((Some((plan, groups)), started.elapsed()))
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
        let all = self.ledger.all_witnesses();
        let seen = if all.is_empty() { BTreeMap::new() } else { witnesses(session, &self.source, &all).await? };
        Ok(Arc::make_mut(&mut self.ledger).judge(evidence, &seen, at))
    }

    fn take(&mut self, answer: Answer, at: Moment, gap_watch: i64) -> Result<Applied, Failure> {
        let Answer { plan, groups, watched, recount, keyed, .. } = answer;
        // What can be refused is, before anything changes.
        let mut ledger = (*self.ledger).clone();
        if let Some(read_keyed::Answer { sweep, seen, groups, failing, reach, .. }) = keyed {
            let applied = ledger.apply_keys(&sweep, &seen, groups, &failing, (reach, at, gap_watch));
            self.ledger = Arc::new(ledger);
            return applied.map_err(|e| self.wrong(&e));
        }
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

    pub(super) fn wrong(&self, error: &ApplyError) -> Failure {
        Failure::new(Reason::Duplicate, format!("{}.sql: {error}", self.source.name))
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
