//! Each command as a person or a service manager runs it.

mod backfill;
mod buckets;
mod check;
mod init;
mod rows;
mod service;
mod sql;
mod usage;
