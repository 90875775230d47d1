//! What the program tells of itself: metrics, log lines, the service manager's status, and what it was built from.

pub mod build_info;
pub mod log;
pub mod self_metrics;
pub mod systemd;
