//! A Prometheus exporter that counts rows of PostgreSQL event tables exactly once.
//!
//! # Map
//!
//! Straight flow: [`config`] → [`source`] → [`sql`] → [`postgres`] → [`ledger`] → [`snapshot`] → [`exposition`] → [`web`];
//! [`poll`] drives it. No module is imported in a ring, and a test holds that.
//!
//! | module | what it is | I/O |
//! | --- | --- | --- |
//! | [`cli`] | the command line, made from the settings and the commands | |
//! | [`commands`] | the commands, one file or folder each, and what they share | all |
//! | [`config`] | settings from flags, environment, file and defaults, checked as a whole | reads files |
//! | [`source`] | an event table: a SELECT and the metrics over its columns, checked | reads files |
//! | [`query`] | PromQL selectors, and which metric and rows they mean | pure |
//! | [`sql`] | composes the statements around the SELECT | pure |
//! | [`postgres`] | address, connection, TLS, one read-only transaction a poll, definitions against the catalog, failures | PostgreSQL |
//! | [`ledger`] | [`ledger::frontier`]: which rows next; [`ledger::identity`]: which table is this; [`ledger::totals`]: what has been counted | pure |
//! | [`state`] | the ledgers on disk | the state file |
//! | [`poll`] | the loop: read, count, save, publish; waiting after failures | through [`postgres`] and [`state`] |
//! | [`snapshot`] | what a poll publishes: immutable, rendered once in what scrapes ask for; summaries for people | pure |
//! | [`exposition`] | Prometheus text, OpenMetrics and protobuf, content negotiation, gzip | pure |
//! | [`clock`] | wall time | the system's clock |
//! | [`tls_error`] | OpenSSL's errors in its own words, for database and web | pure |
//! | [`telemetry`] | the exporter's metrics about itself, log lines, the service manager | standard error, `/proc`, a socket |
//! | [`web`] | sockets, connections, TLS, who may see what, routes, the status page | HTTP |
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

pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod exposition;
pub mod ledger;
pub mod poll;
pub mod postgres;
pub mod query;
pub mod snapshot;
pub mod source;
pub mod sql;
pub mod state;
pub mod telemetry;
pub mod tls_error;
pub mod web;
