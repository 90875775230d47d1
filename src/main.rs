//! Arguments, runtime, exit status: 0; 1 could not do it; 2 wrong usage or configuration.

use std::process::ExitCode;

use rsolv_exporter::cli::{self, Task};
use rsolv_exporter::config::Settings;
use rsolv_exporter::gone::Ledgers;
use rsolv_exporter::question::Question;
use rsolv_exporter::source::Source;
use rsolv_exporter::web::Gate;
use rsolv_exporter::{backfill, buckets, check, explain, healthcheck, log, once, rows, serve};

const FAILED: u8 = 1;
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    let matches = cli::command().get_matches();
    let task = cli::task(&matches);
    let settings = match cli::settings(&matches, environment()) {
        Ok(settings) => settings,
        Err(problems) => return misused("these settings cannot be used", &problems),
    };
    let sources = match &settings.queries_dir {
        Some(dir) => Source::load(dir),
        None => Source::shipped(),
    };
    let sources = match sources {
        Ok(sources) => sources,
        Err(problems) => {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return misused("these definitions cannot be used", &problems);
        }
    };
    // What does not serve has no use for certificates, nor maybe the right to read them.
    let gate = match task {
        Task::Serve | Task::Check { .. } => Gate::open(settings.web.config_file.clone()),
        _ => Gate::open(None),
    };
    let gate = match gate {
        Ok(gate) => gate,
        Err(problems) => return misused("this web configuration (web.config_file) cannot be used", &problems),
    };
    log::start(settings.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(task, &settings, sources, gate)),
        Err(e) => Err(format!("cannot start: {e}")),
    };
    match result {
        Ok(code) => code,
        Err(message) => {
            eprintln!("rsolv-exporter: {message}");
            ExitCode::from(FAILED)
        }
    }
}

async fn run(task: Task, settings: &Settings, sources: Vec<Source>, gate: Gate) -> Result<ExitCode, String> {
    let question = match task.selector().map(|text| Question::parse(text, &sources)).transpose() {
        Ok(question) => question,
        Err(e) => return Ok(misused("this selects nothing", &[e.to_string()])),
    };
    let ledgers = if task.asks_what_is_gone() { Ledgers::load(settings, &sources) } else { Ledgers::default() };
    match task {
        Task::Serve => {
            let stop = serve::stop_signal().map_err(|e| format!("cannot wait for signals: {e}"))?;
            serve::run(settings, sources, gate, stop).await.map_err(|e| e.to_string())?;
        }
        Task::Once => {
            let (text, failure) = once::run(settings, sources).await.map_err(|e| e.to_string())?;
            print(&text);
            if let Some(failure) = failure {
                return Err(failure.to_string());
            }
        }
        Task::Check { json } => {
            let report = check::run(settings, &sources).await;
            let text = if json {
                serde_json::to_string_pretty(&report).map_err(|e| e.to_string())? + "\n"
            } else {
                report.to_string()
            };
            print(&text);
            return Ok(if report.good { ExitCode::SUCCESS } else { ExitCode::from(FAILED) });
        }
        Task::Sql(_) => {
            print(&explain::run(settings, &sources, question.as_ref(), &ledgers).await.map_err(|e| e.to_string())?)
        }
        Task::Rows(options) => {
            if let Some(question) = question {
                let listing = rows::find(settings, &question, &options, &ledgers).await.map_err(|e| e.to_string())?;
                print(&listing.render(options.format, &question));
                listing.notes.iter().for_each(|note| eprintln!("{note}"));
            }
        }
        Task::Buckets(options) => {
            if let Some(question) = question.filter(Question::is_histogram) {
                let found = buckets::suggest(settings, &question, options.since).await.map_err(|e| e.to_string())?;
                print(&found.to_string());
                return Ok(if found.bounds.is_empty() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS });
            }
            let problem = format!("{} is no histogram by its own name, without le", options.selector);
            return Ok(misused("this has no buckets", &[problem]));
        }
        Task::Backfill(options) => {
            let timeline = match backfill::check(&options, &sources, now_ms()) {
                Ok(timeline) => timeline,
                Err(problem) => return Ok(misused("this is no range of history", &[problem])),
            };
            let mut out = std::io::BufWriter::new(std::io::stdout().lock());
            let written = backfill::run(settings, &sources, &timeline, &options.labels, &ledgers, &mut out).await;
            written.map_err(|e| e.to_string())?;
        }
        Task::Healthcheck => healthcheck::run(&settings.web).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Milliseconds since the epoch.
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Like `print!`, but a reader that has gone (`| head`) is no error.
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn misused(what: &str, problems: &[String]) -> ExitCode {
    eprintln!("rsolv-exporter: {what}:");
    for problem in problems {
        eprintln!("  {problem}");
    }
    ExitCode::from(MISUSED)
}

/// The environment; variables that are not Unicode are none of ours.
fn environment() -> std::collections::BTreeMap<String, String> {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect()
}
