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
//! | [`ledger`] | [`ledger::frontier`]: which rows next; [`ledger::identity`]: which table is this; [`ledger::totals`]: what has been counted | pure |
//! | [`poll`], [`backoff`] | the loop: read, count, save, publish; waiting after failures | through [`db`] and [`state`] |
//! | [`state`] | the ledgers on disk | the state file |
//! | [`published`] | what a poll hands to the web: immutable pages, rendered once in what scrapes ask for | pure |
//! | [`exposition`] | Prometheus text, OpenMetrics and protobuf, content negotiation, gzip | pure |
//! | [`metrics`] | the exporter's metrics about itself | reads `/proc` |
//! | [`status`] | what the status page shows beside them | pure |
//! | [`web`], [`listen`] | connections, TLS, users, routes, the status page; the sockets it listens on | HTTP |
//! | [`serve`], [`once`], [`check`], [`init`], [`healthcheck`] | the commands | |
//! | [`ask`]: [`explain`], [`rows`], [`buckets`], [`backfill`] | the commands that ask about the numbers | |
//! | [`walk`], [`gone`] | reading a source backwards by id; counted rows that are gone | through [`db`] and [`state`] |
//! | [`table`], [`duration`] | tables for a terminal; spans of time as people write them | pure |
//! | [`build`] | what the program was built from | pure |
//! | [`log`], [`notify`] | where log lines go; what the service manager is told | standard error, a socket |
//! | [`unit`], [`orphans`] | a command as a unit of systemd's would run it; what a process 1 has to clean up | processes |
//!
//! # Invariants
//!
//! - A scrape never touches the database: it reads what was published, and waits for a poll only while pages are swapped.
//! - A row is counted the first time it is seen finished; then its id is in no list, and nothing can count it again or
//!   take it back. Totals never fall.
//! - Absence is no evidence. An id leaves the ledger's care by being counted; one that may never come is looked for more
//!   rarely, and given up only when there are too many, which a metric counts.
//! - Only other rows under the ids of counted ones prove that ids were handed out again; everything else that changes says
//!   where to look.
//! - The state is saved before its numbers are published. While it cannot be, a metric says so.
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
