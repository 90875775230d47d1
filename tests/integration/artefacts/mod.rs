//! What is shipped beside the program: alerts, dashboards, documents and the demo, each used as a reader would; and the
//! harness that all tests stand on.

mod alerting;
mod commands;
mod demo;
mod documents;
mod layers;
mod metrics_document;
mod support;
