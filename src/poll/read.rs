//! One transaction: what the ledgers ask for, read in one snapshot and applied.

use std::sync::Arc;

use tokio::time::{Duration, Instant};

use super::{MIN_LIMIT, Poller, Tracked, now_ms};
use crate::db::{Failure, Opening, Reason, Session};
use crate::ledger::rewind::Sequence;
use crate::ledger::{Applied, Group, Probe};

/// The self-check looks once in so many parts of the time that gaps are watched: hourly, by default.
const AUDITS: i64 = 24;

/// What a source answered, and what it was asked.
struct Answer {
    probe: Probe,
    groups: Vec<Group>,
    sequence: Option<Sequence>,
}

impl Poller {
    /// Reads some sources in one snapshot and applies the answers; returns those of which there is more to read.
    pub(super) async fn read(
        &mut self,
        which: &[usize],
        failures: &mut [Option<Failure>],
    ) -> Result<Vec<usize>, Failure> {
        let now = now_ms();
        let (mut session, is_new) = match self.session.take().filter(|session| !session.is_closed()) {
            Some(session) => (session, false),
            None => (self.target.connect().await?, true),
        };
        let opening = session.begin().await?;
        if is_new {
            self.identify(session.identity().await?);
        }
        self.is_ahead(&opening)?;
        let mut answers = Vec::with_capacity(which.len());
        for &i in which {
            let (started, read_at) = (Instant::now(), self.read_at);
            let audit = self.poll.gap_watch.as_millis() as i64 / AUDITS;
            let tracked = &mut self.tracked[i];
            let source = tracked.source.clone();
            let standby = opening.position.standby;
            let answer =
                session.part(&source, async |session| tracked.ask(session, standby, read_at, now, audit).await).await?;
            answers.push((answer, started.elapsed()));
        }
        session.end().await?;
        self.session = Some(session);
        self.position = opening.position;
        self.read_at = opening.clock;

        let mut more = Vec::new();
        for (&i, (answer, took)) in which.iter().zip(answers) {
            let tracked = &mut self.tracked[i];
            let result = answer.and_then(|answer| tracked.take(answer, now));
            match &result {
                Ok(applied) => {
                    let oldest = now - self.poll.gap_watch.as_millis() as i64;
                    Arc::make_mut(&mut tracked.ledger).expire_gaps(oldest);
                    tracked.adapt(took, self.chunk, applied.more);
                    self.announcer.drifted(&tracked.source, applied.drifted);
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
        Ok(more)
    }

    /// Notes which database this is; another one is counted anew, and no total falls.
    fn identify(&mut self, identity: String) {
        if self.identity.as_ref().is_some_and(|was| is_other(was, &identity)) {
            tracing::warn!(
                was = self.identity,
                now = identity,
                "this is another database: its tables are counted anew, and totals become the larger of both"
            );
            for tracked in &mut self.tracked {
                Arc::make_mut(&mut tracked.ledger).rebuild();
                tracked.sequence = None;
            }
            self.position = crate::db::Position::default();
        }
        self.identity = Some(identity);
    }

    /// A standby that lags would un-see what has been counted, and miss what is asked for.
    fn is_ahead(&self, opening: &Opening) -> Result<(), Failure> {
        let (now, last) = (&opening.position, &self.position);
        if !now.is_behind(last) {
            return Ok(());
        }
        let message = format!(
            "this standby's snapshot (xmin {}, xmax {}) is older than the last one read (xmin {}, xmax {})",
            now.xmin, now.xmax, last.xmin, last.xmax
        );
        Err(Failure { connection_lost: true, ..Failure::new(Reason::Behind, message) })
    }
}

/// Whether two identities (`system/database`) are of two databases; a system that is unknown can be the same one.
pub fn is_other(was: &str, now: &str) -> bool {
    let (was, now) = (was.split_once('/'), now.split_once('/'));
    was.zip(now).is_none_or(|((was, one), (now, other))| one != other || (was != now && was != "?" && now != "?"))
}

impl Tracked {
    /// Reads what the ledger asks for; before, it looks whether the ids have started again.
    async fn ask(
        &mut self,
        session: &mut Session,
        standby: bool,
        read_at: f64,
        now: i64,
        audit: i64,
    ) -> Result<Answer, Failure> {
        session.prepare(&self.source).await?;
        let sequence = if standby { None } else { session.sequence(&self.source).await? };
        let rewound = sequence.zip(self.sequence).and_then(|(now, last)| now.rewound(&last));
        if let Some(how) = rewound {
            tracing::warn!(
                source = self.source.name,
                last = self.sequence.map(|s| s.last),
                now = sequence.map(|s| s.last),
                ?how,
                "the ids started again: the table is read anew, new rows are counted, totals stay"
            );
            Arc::make_mut(&mut self.ledger).rewind(how, read_at);
            // Noted at once: should reading fail, the next poll must not take it for another rewind.
            self.sequence = sequence;
        }
        let mut probe = self.ledger.probe(now, self.limit);
        self.ledger.audit(&mut probe, now, audit);
        let groups = session.read(&self.source, &probe).await?;
        Ok(Answer { probe, groups, sequence })
    }

    fn take(&mut self, answer: Answer, now: i64) -> Result<Applied, Failure> {
        let applied = Arc::make_mut(&mut self.ledger).apply(&answer.probe, answer.groups, now);
        let applied = applied.map_err(|e| Failure::new(Reason::Duplicate, format!("{}.sql: {e}", self.source.name)))?;
        self.sequence = answer.sequence.or(self.sequence);
        Ok(applied)
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

#[cfg(test)]
mod tests {
    use super::is_other;

    #[test]
    fn a_system_that_the_role_may_not_know_can_be_the_same_one() {
        assert!(!is_other("1/5", "1/5") && !is_other("?/5", "1/5") && !is_other("1/5", "?/5"));
        assert!(is_other("1/5", "2/5") && is_other("1/5", "1/6") && is_other("?/5", "1/6"));
    }
}
