//! Integration tests: the real binary against real servers, one module per subject.
//!
//! Each needs PostgreSQL and some Prometheus; `tests/setup.sh` installs both.

#[path = "../support/mod.rs"]
mod support;

mod demo_runs;
mod support_works;
mod web_formats;
mod web_load;
mod web_protection;
mod web_status;
