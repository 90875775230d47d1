//! What a scrape holds, in every format: read by other implementations, stored by Prometheus, and what it costs.

mod births;
mod exemplars;
mod footprint;
mod formats;
mod golden;
mod native_histograms;
mod open_gauges;
mod prometheus_3;
mod protobuf;
mod rendering;
