//! Tables whose keys are no numbers in insertion order: many writers, late commits, rollbacks, deletes, and an exporter that
//! is killed again and again; every series equals the truth.

mod documented;
mod refused;
mod soak;
mod tables;
mod window;
mod xid;
