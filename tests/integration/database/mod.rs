//! The database: how it is reached, what it may be like, what definitions may ask of it, and what a poll costs it.

mod definitions;
mod languages;
mod pgbouncer;
mod plan;
mod privilege;
mod settings;
mod tls;
