//! The database: one connection, read in one snapshot per poll, rows decoded into the ledger's own types.

mod connect;
mod failure;
mod session;

pub use connect::Target;
pub use failure::{Failure, Reason};
pub use session::{Answer, Position, Reading, Session, Timeouts, lacking};
