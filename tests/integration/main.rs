//! Integration tests: the real binary against real servers, one module per subject.
//!
//! Each needs PostgreSQL and some Prometheus; `tests/setup.sh` installs both.

#[path = "../support/allocations.rs"]
mod allocations;
#[path = "../demo/application.rs"]
mod application;
#[path = "../demo/random.rs"]
#[allow(dead_code, reason = "the demo needs more of it")]
mod random;
#[path = "../support/mod.rs"]
mod support;

mod alerting;
mod backfill_command;
mod births;
mod buckets_command;
mod check_command;
mod counting;
mod definitions;
mod demo_runs;
mod documents;
mod failing_rows;
mod first_read;
mod fixture;
mod footprint;
mod golden;
mod hostile;
mod init_command;
mod languages;
mod layers;
mod native_histograms;
mod open_rows;
mod outages;
mod pgbouncer;
mod plan;
mod privilege;
mod prometheus_3;
mod readme;
mod rendering;
mod rows_command;
mod service;
mod serving;
mod settings;
mod smoke;
mod soak;
mod sql_command;
mod state;
mod state_folder;
mod support_works;
mod tls;
mod usage;
mod values;
mod web_attacks;
mod web_formats;
mod web_load;
mod web_protection;
mod web_protobuf;
mod web_status;
