//! The command `buckets`: bounds for a histogram from the values that there really are.

mod distribution;

use std::fmt::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Command;

pub use distribution::{Distribution, QUANTILES};

use super::backward_scan::{BackwardScan, OLDER, ScanState};
use super::text_table::{Column, WIDTH, table};
use super::{CommandError, Invocation, Subcommand, arguments, block_on, output, selector};
use crate::config::Settings;
use crate::config::duration;
use crate::query::resolved::ResolvedSelector;
use crate::source::Native;
use crate::sql::series::{behind, row_value, view_of};

/// The command.
pub const COMMAND: Subcommand =
    Subcommand { name: "buckets", settings: &["database.", "queries.", "log."], define, run };

fn define(command: Command) -> Command {
    command
        .about("Suggest the bounds of a histogram from the values that there are")
        .arg(selector::argument("The histogram, if wanted with labels").required(true))
        .arg(arguments::since().default_value("30d").help("Executions that finished within this time"))
        .after_long_help(
            "\
It prints p50, p90, p95 and p99 of the values, what histogram_quantile makes of
them with today's and with the suggested bounds, how many values are above the
last bound, and the TOML to paste. Values are rounded up to five significant
digits. The table is read backwards by id, as by the command rows.

Examples:
  rsolv-exporter buckets rsolv_validation_duration_milliseconds
  rsolv-exporter buckets --since 7d \\
    'rsolv_mitigation_trust_score_value{language=\"ruby\"}'",
        )
}

fn run(invocation: &Invocation) -> Result<ExitCode, CommandError> {
    let (settings, sources) = invocation.prepare()?;
    let selector = invocation.text("selector").unwrap_or_default();
    let since = invocation.arguments.get_one("since").copied().unwrap_or_default();
    let question = ResolvedSelector::parse(selector, &sources)?;
    if !question.is_histogram() {
        let problem = format!("{selector} is no histogram by its own name, without le");
        return Err(CommandError::invalid_question(problem));
    }
    block_on(async {
        let found = suggest(&settings, &question, since).await?;
        let text = found.to_string();
        if found.bounds.is_empty() {
            return Err(CommandError::failed(text.trim_end()));
        }
        output::write(&text)?;
        Ok(ExitCode::SUCCESS)
    })
}

/// What was found.
#[derive(Debug)]
pub struct Suggestion<'a> {
    question: &'a ResolvedSelector<'a>,
    since: Duration,
    /// The values.
    pub values: Distribution,
    /// How they are distributed today.
    pub today: Vec<f64>,
    /// How they should be.
    pub bounds: Vec<f64>,
    notes: Vec<String>,
}

/// Reads the values of a histogram, newest first.
async fn suggest<'a>(
    settings: &Settings,
    question: &'a ResolvedSelector<'a>,
    since: Duration,
) -> Result<Suggestion<'a>, CommandError> {
    let session = settings.target.connect().await?;
    let clock = session.begin().await?.clock;
    selector::compile(&session, question.regular()).await?;
    let columns = session.describe(question.source).await?;
    let view = view_of(question, None);
    let limit = settings.target.timeouts().statement;
    let oldest = Some(clock - since.as_secs_f64());
    let mut scan = BackwardScan::new(&session, question.source, &columns, view, oldest, limit);
    let mut conditions = behind(question);
    conditions.extend(scan.recent());
    let found = format!(
        "  SELECT {}::float8 AS value, count(*) AS times\n  FROM seen\n  WHERE {}\n  GROUP BY 1",
        row_value(question).unwrap_or_else(|| "1".to_owned()),
        conditions.join("\n    AND ")
    );
    let mut values = Distribution::default();
    while scan.state == ScanState::Going {
        for row in &scan.next(&found, "found.value").await? {
            let mut found = row.cells();
            if let Some(value) = found.take::<Option<f64>>()? {
                values.add(value, found.take::<i64>()?.unsigned_abs());
            }
        }
    }
    session.end().await?;
    let mut notes: Vec<String> = scan.gave_up().into_iter().collect();
    if scan.state == ScanState::Older {
        notes.push(format!("read back to {}: {OLDER} rows in a row are older", scan.lowest()));
    }
    let today = question.metric.kind.bounds().to_vec();
    let (integer, largest) = question.value().map_or((false, f64::MAX), |value| (value.integer, value.max));
    let bounds = values.suggest(today.len(), integer, largest);
    Ok(Suggestion { question, since, values, today, bounds, notes })
}

impl Suggestion<'_> {
    fn native(&self) -> Option<&Native> {
        self.question.metric.kind.slots().native.map(|i| &self.question.source.natives[i])
    }

    /// The definition of the histogram with the suggested bounds, as it stands in the source's TOML file.
    pub fn toml(&self) -> String {
        let (source, metric) = (self.question.source, self.question.metric);
        let text = |text: &str| toml_string(text);
        let list = |list: &[String]| list.iter().map(|item| text(item)).collect::<Vec<_>>().join(", ");
        let mut toml = format!("[[histogram]]\nname = {}\nhelp = {}\n", text(&metric.name), text(&metric.help));
        let mut line = |key: &str, value: String| _ = writeln!(toml, "{key} = {value}");
        metric.unit.iter().for_each(|unit| line("unit", text(unit)));
        self.question.value().iter().for_each(|value| line("value", text(&value.column)));
        self.question.only().iter().for_each(|only| line("where", text(only)));
        if !metric.labels.is_empty() {
            line("labels", format!("[{}]", list(&metric.labels)));
        }
        if !metric.enumerate.is_empty() {
            let all = metric.enumerate.iter().map(|(label, values)| format!("{label} = [{}]", list(values)));
            line("enumerate", format!("{{ {} }}", all.collect::<Vec<_>>().join(", ")));
        }
        let bounds: Vec<String> = self.bounds.iter().map(ToString::to_string).collect();
        line("buckets", format!("[{}]", bounds.join(", ")));
        if let Some(native) = self.native() {
            line("native", "true".to_owned());
            if native.factor != Native::FACTOR {
                line("factor", format!("{:?}", native.factor));
            }
            if native.max_buckets != Native::MAX_BUCKETS {
                line("max_buckets", native.max_buckets.to_string());
            }
            if native.zero_threshold != Native::ZERO_THRESHOLD {
                line("zero_threshold", format!("{:?}", native.zero_threshold));
            }
        }
        format!("# In {}.toml, in place of the histogram of this name.\n{toml}", source.name)
    }
}

/// A basic string of TOML.
pub fn toml_string(text: &str) -> String {
    // JSON's escapes are all TOML's, which further wants one for DEL.
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

impl fmt::Display for Suggestion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (values, since) = (&self.values, duration::short(self.since, " "));
        let unit = self.question.metric.unit.as_deref();
        let short = |value: f64| match duration::of(value, unit) {
            Some(span) => duration::short(span, ""),
            None => short(value),
        };
        let (Some(min), Some(max)) = (values.min(), values.max()) else {
            writeln!(f, "no values within {since}: nothing to go by")?;
            return self.notes.iter().try_for_each(|note| writeln!(f, "{note}"));
        };
        let count = if values.total() == 1 { "1 value".to_owned() } else { format!("{} values", values.total()) };
        writeln!(f, "{}: {count} within {since}, from {} to {}", self.question.selector, short(min), short(max))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))?;
        if max == 0.0 {
            return writeln!(f, "All values are 0, which says nothing about bounds: today's can stay.");
        }
        let above = |bounds: &[f64]| values.total() - bounds.last().map_or(0, |&bound| values.below(bound));
        let column = |name: &str| Column { name: name.to_owned(), right: true, cut: false };
        let columns = ["quantile", "exact", "today's", "error", "suggested", "error"].map(column);
        let row = |q: &f64| {
            let exact = values.quantile(*q).unwrap_or_default();
            let mut row = vec![format!("p{}", q * 100.0), short(exact)];
            for bounds in [&self.today, &self.bounds] {
                let estimate = values.estimate(*q, bounds).unwrap_or_default();
                let error =
                    if exact == 0.0 { "-".to_owned() } else { format!("{:+.1} %", (estimate / exact - 1.0) * 100.0) };
                row.extend([short(estimate), error]);
            }
            row
        };
        let mut rows: Vec<Vec<String>> = QUANTILES.iter().map(row).collect();
        let (today, suggested) = (above(&self.today), above(&self.bounds));
        rows.push(["above", "", &today.to_string(), "", &suggested.to_string(), ""].map(str::to_owned).to_vec());
        write!(f, "\n{}\n", table(&columns, &rows, WIDTH).0)?;
        if let Some(native) = self.native() {
            let width = (native.growth() - 1.0) * 100.0;
            writeln!(
                f,
                "Where Prometheus stores native histograms, quantiles do not depend on these bounds: this one has buckets \
                 {width:.1} % wide, and wider ones where there would be more than {}.\n",
                native.max_buckets
            )?;
        }
        let error = |bounds: &[f64]| values.error(|q| values.estimate(q, bounds));
        if error(&self.today) <= error(&self.bounds) {
            return writeln!(
                f,
                "Today's bounds serve these values at least as well: there is no reason to change them."
            );
        }
        f.write_str(&self.toml())
    }
}

/// A number of four significant digits.
fn short(value: f64) -> String {
    format!("{value:.3e}").parse::<f64>().unwrap_or(value).to_string()
}
