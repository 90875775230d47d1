//! The Prometheus text format 0.0.4 and OpenMetrics 1.0.

use std::fmt::Write;

use super::{Format, Pairs, SeriesTotals};
use crate::ledger::exemplar::Exemplar;

/// Writes either format.
#[derive(Debug)]
pub struct Encoder {
    format: Format,
    /// Whether OpenMetrics carries `_created`.
    created: bool,
    family: String,
    /// The labels of the last series, as they stand between the braces.
    labels: String,
    /// What follows the value of a sample: nothing, or a blank and a timestamp.
    stamp: String,
    /// The bounds of the last histogram, and each as `le="…"} `; a family has the same ones throughout.
    bounds: Vec<f64>,
    les: Vec<String>,
    out: String,
}

impl Encoder {
    /// An encoder with room for so many bytes; `created` says whether OpenMetrics carries `_created` samples.
    pub fn new(format: Format, created: bool, bytes: usize) -> Self {
        let created = created && format == Format::OpenMetrics;
        let [family, labels, stamp] = [const { String::new() }; 3];
        let out = String::with_capacity(bytes);
        Self { format, created, family, labels, stamp, bounds: Vec::new(), les: Vec::new(), out }
    }

    /// Gives the samples that follow an OpenMetrics timestamp, in milliseconds since the epoch.
    pub fn at(&mut self, ms: i64) {
        self.stamp.clear();
        let _ = match ms.rem_euclid(1000) {
            0 => write!(self.stamp, " {}", ms / 1000),
            fraction => write!(self.stamp, " {}.{fraction:03}", ms.div_euclid(1000)),
        };
    }

    /// Takes out what was written since the last time.
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.out)
    }

    /// How many bytes [`Encoder::take`] would give.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written since the last time.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    fn label(&mut self, labels: &Pairs<'_>) {
        self.labels.clear();
        for (name, value) in labels {
            if !self.labels.is_empty() {
                self.labels.push(',');
            }
            self.labels.push_str(name);
            self.labels.push_str("=\"");
            escape(&mut self.labels, value, true);
            self.labels.push('"');
        }
    }

    fn created(&mut self, start: Option<i64>) {
        if let Some(start) = start.filter(|_| self.created) {
            self.sample("_created", start as f64 / 1000.0);
        }
    }

    fn sample(&mut self, suffix: &str, value: f64) {
        self.out.push_str(&self.family);
        self.out.push_str(suffix);
        if !self.labels.is_empty() {
            self.out.push('{');
            self.out.push_str(&self.labels);
            self.out.push('}');
        }
        self.out.push(' ');
        number(&mut self.out, value);
        self.out.push_str(&self.stamp);
        self.out.push('\n');
    }

    /// Adds an exemplar to the sample that was written last.
    fn exemplar(&mut self, exemplar: Option<&Exemplar>, label: &str) {
        let Some(exemplar) = exemplar else { return };
        self.out.pop();
        let _ = write!(self.out, " # {{{label}=\"");
        escape(&mut self.out, &exemplar.row, true);
        self.out.push_str("\"} ");
        number(&mut self.out, exemplar.value);
        let _ = writeln!(self.out, " {:.3}", exemplar.at);
    }

    /// OpenMetrics wants a float.
    fn bound(&self, bound: f64) -> String {
        let text = le(bound);
        let is_float = text.contains(['.', 'e', 'I']);
        if self.format == Format::OpenMetrics && !is_float { format!("{text}.0") } else { text }
    }
}

impl super::Encoder for Encoder {
    /// OpenMetrics leaves `_total` to the samples of a counter.
    fn family(&mut self, name: &str, kind: &str, unit: Option<&str>, help: &str) {
        let base = if kind == "counter" { name.strip_suffix("_total").unwrap_or(name) } else { name };
        self.family.clear();
        self.family.push_str(base);
        let shown = if self.format == Format::Text { name } else { base };
        let _ = write!(self.out, "# HELP {shown} ");
        escape(&mut self.out, help, self.format == Format::OpenMetrics);
        let _ = write!(self.out, "\n# TYPE {shown} {kind}\n");
        if let (Format::OpenMetrics, Some(unit)) = (self.format, unit) {
            let _ = writeln!(self.out, "# UNIT {shown} {unit}");
        }
    }

    fn counter(&mut self, labels: &Pairs<'_>, series: &SeriesTotals<'_>) {
        self.label(labels);
        let exemplar = series.exemplars.first().copied().flatten();
        self.sample("_total", series.value());
        self.exemplar(exemplar, series.exemplar_label);
        self.created(series.start);
    }

    fn gauge(&mut self, labels: &Pairs<'_>, value: f64) {
        self.label(labels);
        self.sample("", value);
    }

    fn histogram(&mut self, labels: &Pairs<'_>, bounds: &[f64], series: &SeriesTotals<'_>) {
        let &SeriesTotals { counts, sum, start, .. } = series;
        self.label(labels);
        if self.les.is_empty() || self.bounds != bounds {
            let all = bounds.iter().chain([&f64::INFINITY]);
            self.les = all.map(|bound| format!("le=\"{}\"}} ", self.bound(*bound))).collect();
            self.bounds = bounds.to_vec();
        }
        // All buckets begin alike.
        let begin = self.out.len();
        let mut same = begin..begin;
        let les = std::mem::take(&mut self.les);
        for (i, (le, count)) in les.iter().zip(counts).enumerate() {
            if same.is_empty() {
                self.out.push_str(&self.family);
                self.out.push_str("_bucket{");
                self.out.push_str(&self.labels);
                self.out.push_str(if self.labels.is_empty() { "" } else { "," });
                same = begin..self.out.len();
            } else {
                self.out.extend_from_within(same.clone());
            }
            self.out.push_str(le);
            whole(&mut self.out, *count);
            self.out.push_str(&self.stamp);
            self.out.push('\n');
            self.exemplar(series.exemplars.get(i).copied().flatten(), series.exemplar_label);
        }
        self.les = les;
        self.sample("_sum", sum);
        self.sample("_count", counts.last().copied().unwrap_or_default() as f64);
        self.created(start);
    }

    fn has_exemplars(&self) -> bool {
        self.format == Format::OpenMetrics
    }

    fn finish(self: Box<Self>) -> Vec<u8> {
        self.out.into_bytes()
    }
}

/// `le` as the Go client writes it, so that series go on when an exporter changes.
pub fn le(bound: f64) -> String {
    if bound.is_infinite() {
        return "+Inf".to_owned();
    }
    let scientific = format!("{bound:e}");
    let exponent: i32 = scientific.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or_default();
    if (-4..6).contains(&exponent) { format!("{bound}") } else { exponential(bound) }
}

/// A whole number, which most are.
fn whole(out: &mut String, value: u64) {
    out.push_str(itoa::Buffer::new().format(value));
}

/// A number as short as it can be without losing a bit.
fn number(out: &mut String, value: f64) {
    if value.is_sign_positive() && value < 1e15 && value.fract() == 0.0 {
        // The same digits, quicker.
        return whole(out, value as u64);
    }
    let _ = if value.is_nan() {
        write!(out, "NaN")
    } else if value.is_infinite() {
        write!(out, "{}Inf", if value > 0.0 { '+' } else { '-' })
    } else if value != 0.0 && !(1e-6..1e21).contains(&value.abs()) {
        write!(out, "{}", exponential(value))
    } else {
        write!(out, "{value}")
    };
}

/// As Go writes exponents: with a sign and two digits.
fn exponential(value: f64) -> String {
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => match exponent.strip_prefix('-') {
            Some(digits) => format!("{mantissa}e-{digits:0>2}"),
            None => format!("{mantissa}e+{exponent:0>2}"),
        },
        None => text,
    }
}

/// Escapes backslash and line feed, and in label values (and OpenMetrics' help) the double quote.
fn escape(out: &mut String, text: &str, quotes: bool) {
    if !text.bytes().any(|b| matches!(b, b'\\' | b'\n' | b'"')) {
        return out.push_str(text);
    }
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Encoder as _;
    use super::*;

    fn encode(format: Format) -> String {
        let mut encoder = Box::new(Encoder::new(format, true, 0));
        encoder.family("x_total", "counter", None, "Say \"x\" \\ y.");
        let exemplar = |row: &str, value| Exemplar { row: row.into(), value, at: 1_790_000_000.25 };
        let (newest, low) = (exemplar("a\"b", 1.0), exemplar("7", 0.5));
        let (none, of_counter, of_buckets) = ([], [Some(&newest)], [None, None, Some(&low), None, None, Some(&newest)]);
        let shown = |exemplars| if format == Format::Text { &none[..] } else { exemplars };
        let (counts, start) = (&[3][..], Some(12_500));
        let series = SeriesTotals {
            counts,
            start,
            exemplars: shown(&of_counter),
            exemplar_label: "id",
            ..SeriesTotals::default()
        };
        encoder.counter(&[("repo", "a\"b\\c\nd\u{1}é")], &series);
        encoder.family("d_seconds", "histogram", Some("seconds"), "D.");
        let (counts, sum) = (&[0, 1, 2, 2, 2, 3][..], 1e22);
        let series = SeriesTotals {
            counts,
            sum,
            exemplars: shown(&of_buckets),
            exemplar_label: "id",
            ..SeriesTotals::default()
        };
        encoder.histogram(&[], &[0.0, 0.00001, 2.5, 90.0, 1e6], &series);
        encoder.family("g", "gauge", None, "G.");
        [0.1, -3.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-7, 1_790_000_000.25]
            .into_iter()
            .for_each(|value| encoder.gauge(&[], value));
        String::from_utf8(encoder.finish()).unwrap() + format.end()
    }

    #[test]
    fn text() {
        insta::assert_snapshot!(encode(Format::Text));
    }

    #[test]
    fn openmetrics() {
        insta::assert_snapshot!(encode(Format::OpenMetrics));
    }
}
