//! The server that is read: the connection to it, and whether it is the one of before and does not lag.

use tokio::time::Duration;

use super::Poller;
use crate::postgres::{Checking, Demand, Failure, Opening, Position, Reason, ServerId, Session, is_other};

/// A statement may take so long while only new rows are read, unless one has taken longer.
const STEADY: Duration = Duration::from_secs(10);
impl Poller {
    /// The connection with its transaction open: the one of the last poll as long as its server is what it was, else a
    /// new one to a server that does not lag.
    pub(super) async fn session(&mut self) -> Result<(Session, Opening), Failure> {
        if let Some(mut session) = self.session.take().filter(|session| !session.is_over()) {
            session.limit_statements(self.statement_limit());
            let opening = session.begin().await?;
            if session.fits(&opening.position) {
                return Ok((session, opening));
            }
            tracing::info!(server = session.name(), "left: it is no longer what target_session_attrs asks for");
        }
        let demand = NotBehind { identity: self.identity.as_deref(), last: &self.position };
        let mut session = self.target.connect_if(&demand).await?;
        session.limit_statements(self.statement_limit());
        let opening = session.begin().await?;
        Ok((session, opening))
    }

    /// How long a statement may take now: while little is to be read, less than the setting allows, so that a server that hangs
    /// is left soon.
    fn statement_limit(&self) -> Duration {
        let limit = self.target.timeouts().statement;
        let is_steady = self.tracked.iter().all(|tracked| tracked.ledger.is_complete() && !tracked.is_slow);
        if is_steady { limit.min(STEADY) } else { limit }
    }

    /// Notes which database this is. Whether its rows are those that were counted, they tell themselves.
    pub(super) fn identify(&mut self, server: &ServerId) {
        let identity = server.identity();
        if self.identity.as_ref().is_some_and(|was| is_other(was, &identity)) {
            tracing::warn!(
                was = self.identity,
                now = identity,
                "this is another database: rows that were counted are looked for in it"
            );
            self.position = Position::default();
        }
        if self.identity.as_ref() != Some(&identity) {
            self.identity = Some(identity);
        }
    }

    /// A standby that lags would un-see what has been counted, and miss what is asked for.
    pub(super) fn is_ahead(&self, opening: &Opening) -> Result<(), Failure> {
        let (now, last) = (&opening.position, &self.position);
        if now.is_behind(last) { Err(behind(now, last)) } else { Ok(()) }
    }
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
