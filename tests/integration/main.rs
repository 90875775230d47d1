//! Integration tests: the real binary against real servers, one module per subject.
//!
//! Each needs PostgreSQL and some Prometheus; `tests/setup.sh` installs both.

#[path = "../demo/random.rs"]
#[allow(dead_code, reason = "the demo needs more of it")]
mod random;
#[path = "../support/mod.rs"]
mod support;

mod births;
mod definitions;
mod demo_runs;
mod first_read;
mod golden;
mod hostile;
mod outages;
mod pgbouncer;
mod plan;
mod rendering;
mod serving;
mod smoke;
mod soak;
mod state;
mod support_works;
mod usage;
mod values;
mod web_formats;
mod web_protection;
mod web_status;
