//! The database: one connection, read in one snapshot per poll, rows decoded into the ledger's own types.

mod connect;
mod failure;
mod session;

pub use connect::Target;
pub use failure::{Failure, Reason};
pub use session::{Answer, Lossy, Parameter, Position, Reading, Session, Timeouts, in_file, lacking};
