//! What is asked about the numbers: PromQL selectors and what they mean, and the points in time of a history. Pure.

pub mod resolved;
pub mod selector;
pub mod timeline;
