//! The database: one connection, read in one snapshot per poll, rows decoded into the ledger's own types.

mod address;
mod connect;
pub mod definition;
mod failure;
mod session;
mod tls;

pub use connect::Target;
pub use failure::{Failure, Reason};
pub use session::{Lossy, Opening, Parameter, Position, ServerId, Session, Timeouts, in_file};
