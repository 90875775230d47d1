//! Why no server would do: what each of them said.

use crate::postgres::failure::{Failure, Reason};

/// How much a refusal tells about why there is no connection, most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// No connection, or no login.
    Failed,
    /// It works, and lags.
    Behind,
    /// It works, and is of the other kind.
    Unwanted,
}

/// The refusals of one search for a server.
#[derive(Debug, Default)]
pub struct Refusals(Vec<(String, Rank, Failure)>);

impl Refusals {
    /// Notes what a server said; of two about one server, what tells more.
    pub fn add(&mut self, server: String, rank: Rank, failure: Failure) {
        match self.0.iter_mut().find(|(name, ..)| *name == server) {
            Some(known) if rank < known.1 => *known = (server, rank, failure),
            Some(_) => {}
            None => self.0.push((server, rank, failure)),
        }
    }

    /// One failure for all. Its text does not depend on the order in which servers were asked, which changes from one
    /// poll to the next: the log has a line for each new text.
    pub fn sum(mut self) -> Failure {
        self.0.sort_by(|a, b| a.0.cmp(&b.0));
        let message = self.0.iter().map(|(server, _, failure)| format!("{server}: {failure}")).collect::<Vec<_>>();
        let failure = self.0.into_iter().min_by_key(|(_, rank, _)| *rank).map(|(.., failure)| failure);
        match failure {
            Some(failure) => Failure { message: message.join("; "), ..failure }.losing(),
            None => Failure::new(Reason::Connect, "the host's name has no address"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(order: [usize; 3]) -> Failure {
        let said = [
            ("a:1", Rank::Unwanted, Failure::new(Reason::Connect, "is a standby")),
            ("b:1", Rank::Behind, Failure::new(Reason::Behind, "is behind")),
            ("c:1", Rank::Failed, Failure::new(Reason::Auth, "refuses the password")),
        ];
        let mut refusals = Refusals::default();
        for (server, rank, failure) in order.map(|i| said[i].clone()) {
            refusals.add(server.to_owned(), rank, failure);
        }
        refusals.sum()
    }

    #[test]
    fn every_server_is_named_and_the_most_telling_reason_counts_in_whatever_order() {
        let failure = sum([0, 1, 2]);
        assert_eq!(failure.message, "a:1: is a standby; b:1: is behind; c:1: refuses the password");
        assert_eq!((failure.reason, failure.connection_lost), (Reason::Auth, true));
        assert_eq!(sum([2, 0, 1]), failure);
    }

    #[test]
    fn of_two_refusals_of_one_server_the_more_telling_one_counts() {
        let mut refusals = Refusals::default();
        refusals.add("a:1".to_owned(), Rank::Unwanted, Failure::new(Reason::Connect, "is a primary"));
        refusals.add("a:1".to_owned(), Rank::Failed, Failure::new(Reason::Timeout, "is slow"));
        refusals.add("a:1".to_owned(), Rank::Unwanted, Failure::new(Reason::Connect, "is a primary"));
        assert_eq!(refusals.sum().message, "a:1: is slow");
    }
}
