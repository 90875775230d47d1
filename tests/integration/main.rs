//! Integration tests: the real binary against real servers, one folder per subject.
//!
//! Each needs PostgreSQL and some Prometheus; `tests/setup.sh` installs both.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

#[path = "../support/allocations.rs"]
mod allocations;
#[path = "../demo/application.rs"]
mod application;
#[path = "../demo/random.rs"]
#[allow(dead_code, reason = "the demo needs more of it")]
mod random;
#[path = "../support/mod.rs"]
mod support;

mod artefacts;
mod commands;
mod counting;
mod database;
mod exposition;

mod outages;
mod web;
