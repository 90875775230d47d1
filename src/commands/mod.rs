//! The commands, one file or folder each.

pub mod ask;
pub mod backfill;
pub mod backward_scan;
pub mod buckets;
pub mod check;
pub mod config;
pub mod healthcheck;
pub mod init;
pub mod once;
pub mod reconcile;
pub mod rows;
pub mod serve;
pub mod sql;
pub mod text_table;
pub mod unit;
