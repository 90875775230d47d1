//! The shipped alerts and dashboards against the real things: executions in PostgreSQL, the exporter, Prometheus,
//! Alertmanager, and what arrives at the other end.

mod executions;
mod exported;
mod exporter;
mod panels;
mod quiet;
mod scaled;
mod stack;
