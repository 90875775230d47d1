//! The database: one connection, read in one snapshot per poll, rows decoded into the ledger's own types.

mod address;
mod connect;
pub mod definition;
mod failure;
mod identity;
pub mod keyed;
mod password;
pub mod remedy;
mod session;
mod tls;

pub use address::Environment;
pub use connect::{Checking, Demand, Options, Target, Url, jitter};
pub use failure::{Failure, Reason};
pub use identity::{ServerId, is_other};
pub use password::Password;
pub use session::{Lossy, Opening, Parameter, Position, Session, Timeouts, in_file};
