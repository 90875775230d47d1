//! The harness: real servers, and the real exporter, for tests and the demo.
//!
//! A [`cluster::Cluster`] is a throwaway PostgreSQL server, a
//! [`database::Database`] one test's own database on it, an
//! [`exporter::Exporter`] the real binary as a child process. A
//! [`proxy::Proxy`] between the two breaks the network on command, and a
//! [`prometheus::Prometheus`] scrapes like the one in production, an
//! [`alertmanager::Alertmanager`] notifies a [`webhook::Webhook`].
//!
//! Nothing here sleeps for a fixed time: what has to happen is waited for,
//! with a deadline and an error that says what did not happen.
#![allow(dead_code, reason = "the tests and the demo each use a part of it")]

pub mod alertmanager;
pub mod attack;
pub mod browser;
pub mod certificates;
pub mod cluster;
pub mod coherence;
pub mod daemon;
pub mod database;
pub mod execution;
pub mod exporter;
pub mod failure;
pub mod hosts;
pub mod http;
pub mod installation;
pub mod metrics;
pub mod patroni;
pub mod pgbouncer;
pub mod ports;
pub mod preload;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod psql;
pub mod python;
pub mod rows;
pub mod scratch;
pub mod source;
pub mod state;
pub mod steady;
pub mod truth;
pub mod webhook;
