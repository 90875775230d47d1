//! From the text of a pair of files to a checked [`Source`], with every problem and not only the first.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use toml::{Table, Value as Toml};

use super::key::Key;
use super::metric_table::MetricTable;
use super::{Count, MAX_VALUE, Metric, Problem, REQUIRED, Source, Value, kind, lexer, names};

/// PostgreSQL's statements have at most 1664 columns, some of which are the program's own.
const MAX_WIDTH: usize = 1600;

#[derive(Deserialize)]
struct RawColumn {
    #[serde(default)]
    integer: bool,
    #[serde(default)]
    min: f64,
    #[serde(default = "max_value")]
    max: f64,
    #[serde(flatten)]
    unknown: BTreeMap<String, Toml>,
}

fn max_value() -> f64 {
    MAX_VALUE
}

#[derive(Deserialize)]
struct RawMetric {
    name: String,
    help: String,
    unit: Option<String>,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    enumerate: BTreeMap<String, Vec<String>>,
    #[serde(flatten)]
    rest: Table,
}

struct Parser {
    file: String,
    problems: Vec<Problem>,
    source: Source,
}

/// Parses one pair. The source is sound only if there are no problems.
pub fn parse(name: &str, sql: &str, toml: &str, dir: &str) -> (Source, Vec<Problem>) {
    let statement = lexer::statement(sql);
    let source = Source {
        name: name.to_owned(),
        sql: statement.clone().unwrap_or_default(),
        labels: Vec::new(),
        by: Vec::new(),
        missing: BTreeMap::new(),
        values: Vec::new(),
        metrics: Vec::new(),
        counts: vec![Count { value: None, le: None, only: None }],
        sums: Vec::new(),
        since: Vec::new(),
        natives: Vec::new(),
        enumerated: Vec::new(),
        sequence: None,
        exemplar: Some(REQUIRED[0].to_owned()),
        key: None,
        count_if: None,
    };
    let mut parser = Parser { file: format!("{dir}/{name}.toml"), problems: Vec::new(), source };
    if let Err(message) = statement {
        parser.problems.push(Problem { file: format!("{dir}/{name}.sql"), key: String::new(), message });
    }
    match toml.strip_prefix('\u{feff}').unwrap_or(toml).parse::<Table>() {
        Ok(table) => parser.file(table),
        Err(e) => parser.problem("", e.to_string().trim_end().replace('\n', "\n    ")),
    }
    (parser.source, parser.problems)
}

/// What to say of a key that is none of the known ones.
fn unknown(key: &str, known: &str) -> String {
    let alike = |other: &str| strsim::jaro_winkler(key, other);
    let best = known.split(", ").max_by(|a, b| alike(a).total_cmp(&alike(b))).filter(|best| alike(best) > 0.75);
    match best {
        Some(best) => format!("unknown key; did you mean {best}? Known are {known}"),
        None => format!("unknown key; known are {known}"),
    }
}

impl Parser {
    fn problem(&mut self, key: &str, message: impl Into<String>) {
        self.problems.push(Problem { file: self.file.clone(), key: key.to_owned(), message: message.into() });
    }

    fn read<T: for<'de> Deserialize<'de>>(&mut self, key: &str, value: Toml) -> Option<T> {
        value.try_into().map_err(|e| self.problem(key, e.to_string().trim_end().replace('\n', " "))).ok()
    }

    fn file(&mut self, mut table: Table) {
        self.source.labels = table.remove("labels").and_then(|v| self.read("labels", v)).unwrap_or_default();
        let mut wrong = Vec::new();
        self.source.key = Key::take(&mut table, |key, message| wrong.push((key.to_owned(), message.to_owned())));
        wrong.into_iter().for_each(|(key, message)| self.problem(&key, message));
        self.source.sequence = table.remove("sequence").and_then(|v| self.read("sequence", v));
        self.source.count_if = table.remove("count_if").and_then(|v| self.read("count_if", v));
        match table.remove("exemplar") {
            Some(Toml::Boolean(false)) => self.source.exemplar = None,
            Some(Toml::String(column)) => self.source.exemplar = Some(column),
            Some(_) => self.problem("exemplar", "must be the column that names a row, or false"),
            None => {
                // A key of several columns is no name, and not every column can be a label.
                let own = self.source.key.as_ref().map(|key| key.columns.as_slice());
                if let Some(columns) = own {
                    let name = columns.first().filter(|column| columns.len() == 1 && names::label(column).is_empty());
                    self.source.exemplar = name.cloned();
                }
            }
        }
        let exemplar = self.source.exemplar_column().map(str::to_owned);
        exemplar.iter().flat_map(|column| names::label(column)).for_each(|problem| self.problem("exemplar", problem));
        self.source.missing = table.remove("missing").and_then(|v| self.read("missing", v)).unwrap_or_default();
        let columns: BTreeMap<String, Toml> =
            table.remove("columns").and_then(|v| self.read("columns", v)).unwrap_or_default();
        columns.into_iter().for_each(|(name, value)| self.column(name, value));
        for kind in kind::TABLES {
            let metrics: Vec<Toml> = table.remove(kind).and_then(|v| self.read(kind, v)).unwrap_or_default();
            for (i, value) in metrics.into_iter().enumerate() {
                let name = value.get("name").and_then(Toml::as_str).map(str::to_owned);
                let key = name.map_or_else(|| format!("{kind}[{i}]"), |name| format!("{kind} {name}"));
                if let Some(metric) = self.read::<RawMetric>(&key, value) {
                    self.metric(kind, &key, metric);
                }
            }
        }
        for key in table.keys() {
            let known = "labels, key, order, late, xid, sequence, count_if, exemplar, missing, columns, counter, histogram, gauge";
            self.problem(key, unknown(key, known));
        }
        if self.source.metrics.is_empty() && self.problems.is_empty() {
            self.problem("", "declares no metric: add a [[counter]], [[histogram]] or [[gauge]]");
        }
        self.labels("labels", &self.source.labels.clone());
        let labels: BTreeSet<_> =
            self.source.metrics.iter().flat_map(|m| &m.labels).chain(&self.source.labels).collect();
        let stray: Vec<_> = self.source.missing.keys().filter(|k| !labels.contains(k)).cloned().collect();
        stray.iter().for_each(|k| self.problem(&format!("missing.{k}"), "is the label of no metric"));
        self.enumerate();
        let Source { labels, by, values, natives, .. } = &self.source;
        let width = labels.len() + by.len() + self.source.only().len() + 3 * values.len() + natives.len();
        if width > MAX_WIDTH {
            let message = format!(
                "reads {} value columns, which is more than one statement of PostgreSQL can hold: \
                 make several sources of it, with some of the metrics each",
                values.len()
            );
            self.problem("", message);
        }
    }

    fn column(&mut self, name: String, value: Toml) {
        let key = format!("columns.{name}");
        let Some(raw) = self.read::<RawColumn>(&key, value) else { return };
        for k in raw.unknown.keys() {
            self.problem(&format!("{key}.{k}"), unknown(k, "integer, min, max"));
        }
        if REQUIRED.contains(&name.as_str()) {
            self.problem(&key, "is not a value column");
        }
        // Sums are counters or belong to histograms: they may not fall.
        if !(raw.min >= 0.0 && raw.min <= raw.max && raw.max <= MAX_VALUE) {
            self.problem(
                &key,
                format!("needs 0 <= min <= max <= {MAX_VALUE:e}, so that sums neither fall nor overflow"),
            );
        }
        self.source.values.push(Value { column: name, integer: raw.integer, min: raw.min, max: raw.max });
    }

    fn metric(&mut self, table: &'static str, key: &str, raw: RawMetric) {
        let known = kind::keys();
        for k in raw.rest.keys().filter(|k| !known.contains(&k.as_str())) {
            let known = [&["name", "help", "unit", "labels", "enumerate"], known.as_slice()].concat().join(", ");
            self.problem(&format!("{key}.{k}"), unknown(k, &known));
        }
        self.name(table, key, &raw);
        self.labels(&format!("{key}.labels"), &raw.labels);
        for label in &raw.labels {
            if table != "gauge" && self.source.labels.contains(label) {
                self.problem(&format!("{key}.labels"), format!("\"{label}\" is on every metric already"));
            }
        }
        for label in raw.enumerate.keys().filter(|l| !raw.labels.contains(l)) {
            self.problem(&format!("{key}.enumerate.{label}"), "is not one of the metric's own labels");
        }
        let RawMetric { name, help, unit, labels, enumerate, rest: keys } = raw;
        let Self { file, problems, source } = self;
        let mut metric = MetricTable { table, labels, enumerate, source, keys, file, key, problems };
        let measured = kind::parse(&mut metric);
        let MetricTable { labels, enumerate, .. } = metric;
        let Some(kind) = measured else { return };
        if !kind.is_gauge() {
            for label in &labels {
                if !self.source.by.contains(label) {
                    self.source.by.push(label.clone());
                }
            }
        }
        self.source.metrics.push(Metric { name, help, unit, labels, enumerate, kind });
    }

    fn name(&mut self, kind: &str, key: &str, raw: &RawMetric) {
        for problem in names::metric(kind, &raw.name, raw.unit.as_deref()) {
            self.problem(&format!("{key}.name"), problem);
        }
        if raw.help.trim().is_empty() {
            self.problem(&format!("{key}.help"), "is empty");
        }
    }

    fn labels(&mut self, key: &str, labels: &[String]) {
        for (i, label) in labels.iter().enumerate() {
            names::label(label).into_iter().for_each(|problem| self.problem(key, problem));
            if labels[..i].iter().filter(|earlier| *earlier == label).count() == 1 {
                self.problem(key, format!("\"{label}\" is there twice"));
            }
        }
    }

    /// Every combination of the enumerated values, when all the other labels have some.
    fn enumerate(&mut self) {
        let counted = |m: &&Metric| !m.kind.is_gauge();
        let values = |label: &String| -> BTreeSet<String> {
            let lists = self.source.metrics.iter().filter(counted).filter_map(|m| m.enumerate.get(label));
            lists.flatten().cloned().collect()
        };
        let lists: Vec<_> = self.source.by.iter().map(values).collect();
        self.source.enumerated = lists.iter().fold(vec![Vec::new()], |all, list| {
            let with =
                |v: &String| all.iter().map(|c| [c.as_slice(), std::slice::from_ref(v)].concat()).collect::<Vec<_>>();
            list.iter().flat_map(with).collect()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        labels = ["repo"]
        [columns]
        ms = { min = 0 }
        [[counter]]
        name = "x_total"
        help = "X."
        labels = ["status"]
        enumerate = { status = ["b", "a"] }
        [[histogram]]
        name = "x_ms"
        help = "X."
        value = "ms"
        buckets = [1, 2.5]
    "#;

    fn problems(toml: &str) -> String {
        let found = Source::parse(vec![("x".into(), "SELECT 1;\n".into(), toml.into())], "q").err().unwrap_or_default();
        found.iter().map(|p| format!("{p}\n")).collect()
    }

    #[test]
    fn a_definition_becomes_measures() {
        let sources = Source::parse(vec![("x".into(), "SELECT 1;\n".into(), GOOD.into())], "q").unwrap();
        let source = &sources[0];
        assert_eq!(source.sql, "SELECT 1");
        assert_eq!(source.enumerated, [["a"], ["b"]]);
        assert_eq!(source.counts.len(), 1 + 3, "rows, two buckets, count");
        assert_eq!(source.metrics[1].kind.bounds(), [1.0, 2.5]);
        let slots = source.metrics[1].kind.slots();
        assert_eq!((slots.counts, slots.sum, slots.native), (1..4, Some(0), None));
    }

    #[test]
    fn the_shipped_definitions_are_sound() {
        assert_eq!(Source::shipped().map(|s| s.len()), Ok(2));
    }

    #[test]
    fn every_problem_is_reported_at_once_with_file_and_key() {
        insta::assert_snapshot!(problems(
            r#"
            labels = ["repo", "1st", "le"]
            speed = 1
            [missing]
            nobody = "x"
            [columns]
            ms = { min = -1, typo = 2 }
            n = { min = 3, max = 2 }
            id = { min = 0 }
            [[counter]]
            name = "x"
            help = "X."
            colour = "red"
            labels = ["repo"]
            [[counter]]
            help = "no name"
            [[counter]]
            name = "9x_total"
            help = ""
            buckets = [1]
            [[counter]]
            name = "both_total"
            help = "B."
            sum = "ms"
            count = "ms"
            [[histogram]]
            name = "h_seconds_sum"
            help = "H."
            value = "ms"
            unit = "seconds"
            buckets = [2, 1]
            [[histogram]]
            name = "h_total"
            help = "H."
            buckets = [1, inf]
            [[histogram]]
            name = "h"
            help = "H."
            value = "ms"
            buckets = "1, 2"
            [[gauge]]
            name = "rsolv_exporter_up"
            help = "G."
            of = "closed"
            [[gauge]]
            name = "g"
            help = "G."
            of = "open"
            labels = ["planet"]
            enumerate = { moon = ["1"] }
            "#
        ));
    }

    #[test]
    fn a_mistyped_key_is_told_what_was_meant() {
        for (key, meant) in [
            ("bucket", "buckets"),
            ("lables", "labels"),
            ("Where", "where"),
            ("enumerates", "enumerate"),
            ("nmae", "name"),
        ] {
            assert!(
                unknown(key, "name, labels, where, buckets, enumerate").contains(&format!("did you mean {meant}?")),
                "{key}"
            );
        }
        assert!(!unknown("colour", "name, labels, where, buckets, enumerate").contains("mean"));
    }

    #[test]
    fn bad_toml_is_shown_with_its_line() {
        insta::assert_snapshot!(problems("labels = [\"repo\"\n[[counter]]"));
    }

    #[test]
    fn one_name_belongs_to_one_family() {
        let twice = format!("{GOOD}\n[[counter]]\nname = \"x_ms_total\"\nhelp = \"X.\"\n");
        insta::assert_snapshot!(problems(&twice));
    }
}
