//! The exporter's own metrics, from a `prometheus` registry into the same encoders as the rest.

use prometheus::proto::{MetricFamily, MetricType};

use super::{Encoder, SeriesTotals};

/// Encodes gathered families. Only counters and gauges are used for own metrics.
pub fn encode(encoder: &mut dyn Encoder, families: &[MetricFamily]) {
    for family in families {
        let kind = if family.get_field_type() == MetricType::COUNTER { "counter" } else { "gauge" };
        let unit = ["seconds", "bytes"].into_iter().find(|unit| {
            let name = family.name();
            name.strip_suffix("_total").unwrap_or(name).ends_with(&format!("_{unit}"))
        });
        encoder.family(family.name(), kind, unit, family.help());
        for metric in family.get_metric() {
            let labels: Vec<_> = metric.get_label().iter().map(|l| (l.name(), l.value())).collect();
            match family.get_field_type() {
                MetricType::COUNTER => {
                    let sum = metric.get_counter().get_value();
                    encoder.counter(&labels, &SeriesTotals { sum, ..SeriesTotals::default() });
                }
                _ => encoder.gauge(&labels, metric.get_gauge().get_value()),
            }
        }
    }
}
