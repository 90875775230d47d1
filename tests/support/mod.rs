//! The harness: real servers, and the real exporter, for tests and the demo.
//!
//! A [`cluster::Cluster`] is a throwaway PostgreSQL server, a
//! [`database::Database`] one test's own database on it.
//!
//! Nothing here sleeps for a fixed time: what has to happen is waited for,
//! with a deadline and an error that says what did not happen.
#![allow(dead_code, reason = "the tests and the demo each use a part of it")]

pub mod cluster;
pub mod database;
pub mod execution;
pub mod failure;
pub mod installation;
pub mod ports;
pub mod process;
pub mod scratch;
