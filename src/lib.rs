//! A Prometheus exporter that counts rows of PostgreSQL event tables exactly once.
//!
//! # Map
//!
//! Straight flow: [`config`] → [`source`] → [`sql`] → [`db`] → [`ledger`] → [`published`] → [`exposition`] → [`web`];
//! [`poll`] drives it.
//!
//! | module | what it is | I/O |
//! | --- | --- | --- |
//! | [`cli`], [`config`] | command line; settings from flags, environment, file and defaults, checked as a whole | reads files |
//! | [`source`] | an event table: a SELECT and the metrics over its columns, checked | reads files |
//! | [`sql`] | composes the statements around the SELECT | pure |
//! | [`selector`], [`question`] | PromQL selectors, and which metric and rows they mean | pure |
//! | [`db`] | one connection, one read-only transaction a poll, definitions against the catalog, rows into own types, failures into reasons | PostgreSQL |
//! | [`ledger`] | what has been counted; totals that only grow | pure |
//! | [`poll`], [`backoff`] | the loop: read, count, publish; waiting after failures | through [`db`] |
//! | [`state`] | the ledgers on disk | the state file |
//! | [`published`] | what a poll hands to the web: immutable pages, rendered once in what scrapes ask for | pure |
//! | [`exposition`] | Prometheus text and OpenMetrics, content negotiation | pure |
//! | [`metrics`] | the exporter's metrics about itself | pure |
//! | [`status`] | what the status page shows beside them | pure |
//! | [`web`] | connections, TLS, users, routes, the status page | HTTP |
//! | [`serve`], [`once`], [`check`], [`init`], [`healthcheck`] | the commands | |
//! | [`ask`]: [`explain`], [`rows`], [`buckets`], [`backfill`] | the commands that ask about the numbers | |
//! | [`walk`], [`gone`] | reading a source backwards by id; counted rows that are gone | through [`db`] |
//! | [`table`], [`duration`] | tables for a terminal; spans of time as people write them | pure |
//! | [`unit`] | a command as a unit of systemd's would run it | systemd |
//! | [`build`] | what the program was built from | pure |
//! | [`listen`] | the sockets that the web side listens on | sockets |
//! | [`orphans`] | what a process 1 has to clean up | processes |
//! | [`log`], [`notify`] | where log lines go; what the service manager is told | standard error, a socket |
//!
//! # Invariants
//!
//! - A scrape never touches the database: it reads what was published, and waits for a poll only while pages are swapped.
//! - An id leaves the ledger's care only by being counted, and what is counted is never asked for again; only another
//!   row under its id proves that the database handed it out again.
//! - The numbers of one page come from one snapshot of the database.
//! - All knowledge of a table's schema is in `queries/`, none in here.
//! - No text that reaches a log, an error, a metric or a page holds a password or the contents of a row.
#![deny(missing_docs)]

pub mod ask;
pub mod backfill;
pub mod backoff;
pub mod buckets;
pub mod build;
pub mod check;
pub mod cli;
pub mod config;
pub mod db;
pub mod duration;
pub mod explain;
pub mod exposition;
pub mod gone;
pub mod healthcheck;
pub mod init;
pub mod ledger;
pub mod listen;
pub mod log;
pub mod metrics;
pub mod notify;
pub mod once;
pub mod orphans;
pub mod poll;
pub mod published;
pub mod question;
pub mod rows;
pub mod selector;
pub mod serve;
pub mod source;
pub mod sql;
pub mod state;
pub mod status;
pub mod table;
pub mod unit;
pub mod walk;
pub mod web;
