//! Where log lines go, and how they look.

use std::fmt::{self, Debug};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Registry, fmt as subscriber};

use crate::clock::Clock;
use crate::config::{Log, LogFormat};

/// Starts logging to standard error, for the whole process.
pub fn start(log: Log) {
    let stderr = Stderr { is_journal: is_journal() };
    // A second start in one process is a test's: the first one stays.
    let _ = match log.format {
        LogFormat::Logfmt => {
            let layer = subscriber::layer().event_format(Logfmt).with_writer(stderr);
            tracing::subscriber::set_global_default(Registry::default().with(log.level).with(layer))
        }
        LogFormat::Json => {
            let layer = subscriber::layer().json().flatten_event(true).with_target(false).with_writer(stderr);
            tracing::subscriber::set_global_default(Registry::default().with(log.level).with(layer))
        }
    };
}

/// Says on standard error why the program ends, for people; the journal gets it as an error.
pub fn fail(message: &str) {
    let priority = if is_journal() { priority(Level::ERROR) } else { "" };
    for line in message.lines() {
        eprintln!("{priority}{line}");
    }
}

/// True if standard error is a stream of the journal's, as systemd.exec(5) says to find out.
fn is_journal() -> bool {
    let is_named = |stream: &str| {
        let file = File::from(io::stderr().as_fd().try_clone_to_owned().ok()?);
        let file = file.metadata().ok()?;
        Some(stream == format!("{}:{}", file.dev(), file.ino()))
    };
    std::env::var("JOURNAL_STREAM").ok().and_then(|stream| is_named(&stream)).unwrap_or(false)
}

/// What sd-daemon(3) puts before a line, so that `journalctl -p warning` finds it.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

/// Makes writers to standard error that put the priority before a line in the journal.
#[derive(Clone, Copy, Debug)]
struct Stderr {
    is_journal: bool,
}

/// Writes one line, which comes as a whole.
struct Line(&'static str);

impl MakeWriter<'_> for Stderr {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line("")
    }

    fn make_writer_for(&self, metadata: &Metadata<'_>) -> Line {
        Line(if self.is_journal { priority(*metadata.level()) } else { "" })
    }
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(&[self.0.as_bytes(), line].concat())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `ts=… level=… msg=… key=value`, as other exporters write it.
struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        write!(line, "ts={} level={level}", humantime::format_rfc3339_millis(Clock::default().now()))?;
        let mut fields = Fields { line, result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        writeln!(fields.line)
    }
}

struct Fields<'a> {
    line: Writer<'a>,
    result: fmt::Result,
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let key = if field.name() == "message" { "msg" } else { field.name() };
        self.result = self.result.and_then(|()| write!(self.line, " {key}={}", quoted(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// A value, in quotes with escapes if a reader could not tell where it ends.
fn quoted(value: &str) -> String {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '=' | '\\');
    if !value.is_empty() && value.chars().all(is_plain) {
        return value.to_owned();
    }
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            // A terminal would obey these.
            c if c.is_control() => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_as_other_exporters_write_it() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = subscriber::layer().event_format(Logfmt).with_writer(move || writer.clone());
        tracing::subscriber::with_default(Registry::default().with(layer), || {
            let error = io::Error::other("no \"room\"");
            tracing::warn!(%error, rows = 7, good = true, path = "/a=b", empty = "", "the state cannot\nbe saved");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(humantime::parse_rfc3339(time.strip_prefix("ts=").unwrap()).is_ok(), "{text}");
        assert_eq!(time.len(), "ts=2026-01-31T12:00:00.000Z".len(), "{text}");
        assert_eq!(
            rest,
            "level=warn msg=\"the state cannot\\nbe saved\" error=\"no \\\"room\\\"\" rows=7 good=true path=\"/a=b\" empty=\"\"\n"
        );
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(quoted("a\u{1b}[31m\u{9b}b"), "\"a\\u001b[31m\\u009bb\"");
        assert_eq!(quoted("C:\\x"), "\"C:\\\\x\"");
        assert_eq!(quoted("größer"), "größer");
    }
}
