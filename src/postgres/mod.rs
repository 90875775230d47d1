//! The database: one connection, read in one snapshot per poll, rows decoded into the ledger's own types.

mod address;
mod columns;
mod connect;
mod decode;
pub mod definition;
mod failure;
mod identity;
pub mod keyed;
mod password;
pub mod remedy;
mod row;
mod session;
mod tls;

pub use address::Environment;
pub use connect::{Checking, Demand, Options, Target, Url, jitter};
pub use failure::{Failure, Reason};
pub use identity::{ServerId, is_other};
pub use password::Password;
pub use row::{Cells, Lossy, Row};
pub use session::{Opening, Parameter, Position, Session, Timeouts, in_file};
pub use tokio_postgres::types::Type;
