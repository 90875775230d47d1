//! Integration tests: the real binary against real servers, one module per subject.
//!
//! Each needs PostgreSQL and some Prometheus; `tests/setup.sh` installs both.

#[path = "../support/mod.rs"]
mod support;

mod backfill_command;
mod buckets_command;
mod check_command;
mod demo_runs;
mod fixture;
mod rows_command;
mod sql_command;
mod support_works;
