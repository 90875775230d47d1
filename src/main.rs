//! Arguments, runtime, exit status: 0; 1 could not do it; 2 wrong usage or configuration.

use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use rsolv_exporter::cli::{self, Task};
use rsolv_exporter::commands::ask::AskError;
use rsolv_exporter::commands::{ask, check, config, healthcheck, init, once, rows, serve, unit};
use rsolv_exporter::config::Settings;
use rsolv_exporter::postgres::Failure;
use rsolv_exporter::source::Source;
use rsolv_exporter::telemetry::log;
use rsolv_exporter::web::AccessControl;

const FAILED: u8 = 1;
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    share_heap();
    let arguments = cli::joined(std::env::args_os());
    let matches = cli::command().get_matches_from(&arguments);
    let task = cli::task(&matches);
    if let Some(unit) = cli::unit(&matches) {
        if task == Task::Serve {
            return misused(
                "this cannot be run",
                &["--unit is for other commands: systemctl starts the unit".to_owned()],
            );
        }
        return ended(Err(unit::run(unit, &unit::without_flag(&arguments))));
    }
    match &task {
        Task::Completion(shell) => return ended(cli::completion(shell, &mut std::io::stdout().lock())),
        Task::Man(directory) => return ended(cli::man(directory.as_ref()).map_err(|e| format!("{directory}: {e}"))),
        _ => {}
    }
    if task == Task::Healthcheck {
        // It knows the environment of a container, but not the server's command line, which may name the database.
        return match cli::web(&matches, environment()) {
            Ok(web) => on_runtime(async { healthcheck::run(&web).await.map(|()| ExitCode::SUCCESS) }),
            Err(problems) => misused("these settings cannot be used", &problems),
        };
    }
    if let Task::Rows(rows::Options { selector: None, id: None, .. }) = &task {
        // What there is to ask for stands in the definitions: no database is needed.
        return match cli::queries_dir(&matches, environment()).map(|dir| sources(dir.as_deref())) {
            Ok(Ok(sources)) => {
                print(&rows::catalogue(&sources));
                ExitCode::SUCCESS
            }
            Ok(Err(problems)) => misused("these definitions cannot be used", &problems),
            Err(problems) => misused("these settings cannot be used", &problems),
        };
    }
    let settings = match cli::settings(&matches, environment()) {
        Ok(settings) => settings,
        Err(problems) => return misused("these settings cannot be used", &problems),
    };
    if task == Task::Config {
        print(&config::settings(&settings));
        return ExitCode::SUCCESS;
    }
    if let Task::Init(table) = &task {
        // There need not be any definition yet.
        return on_runtime(async {
            let said = init::run(&settings, table).await.map_err(|e| e.to_string())?;
            print(&said);
            Ok(ExitCode::SUCCESS)
        });
    }
    let sources = match sources(settings.queries_dir.as_deref()) {
        Ok(sources) => sources,
        Err(problems) => return misused("these definitions cannot be used", &problems),
    };
    // What does not serve has no use for certificates, nor maybe the right to read them.
    let gate = match task {
        Task::Serve | Task::Check { .. } => AccessControl::open(settings.web.config_file.clone()),
        _ => AccessControl::open(None),
    };
    let gate = match gate {
        Ok(gate) => gate,
        Err(problems) => return misused("this web configuration (web.config_file) cannot be used", &problems),
    };
    log::start(settings.log);
    settings.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    on_runtime(run(task, &settings, sources, gate))
}

/// The definitions in a directory, or the shipped ones; or all that is wrong with them, a line each.
fn sources(dir: Option<&Path>) -> Result<Vec<Source>, Vec<String>> {
    let sources = dir.map_or_else(Source::shipped, Source::load);
    sources.map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

/// Runs to the end; a failure is said.
fn on_runtime(what: impl Future<Output = Result<ExitCode, String>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(what);
            // What hangs on a disk or a name server would hold up the end for as long.
            runtime.shutdown_background();
            result
        }
        Err(e) => Err(format!("cannot start: {e}")),
    };
    result.unwrap_or_else(|message| ended(Err(message)))
}

/// The exit status; a failure is said.
fn ended(result: Result<(), String>) -> ExitCode {
    let Err(message) = result else { return ExitCode::SUCCESS };
    log::fail(&format!("rsolv-exporter: {message}"));
    ExitCode::from(FAILED)
}

/// One heap for all threads: glibc gives those that render, compress and save one each, and what they free stays there.
fn share_heap() {
    // SAFETY: it sets a number of the allocator, and there is no other thread yet.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

async fn run(task: Task, settings: &Settings, sources: Vec<Source>, gate: AccessControl) -> Result<ExitCode, String> {
    match task {
        Task::Serve => {
            let stop = serve::stop_signal().map_err(|e| format!("cannot wait for signals: {e}"))?;
            match serve::run(settings, sources, gate, stop).await {
                // Neither a file of another user nor a low port comes right by trying again.
                Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                    return Ok(misused("these settings cannot be used", &[e.to_string()]));
                }
                served => served.map_err(|e| e.to_string())?,
            }
        }
        Task::Once => {
            let said = |failures: Vec<Failure>| failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            let (text, failures) = once::run(settings, sources).await.map_err(said)?;
            print(&text);
            if !failures.is_empty() {
                return Err(said(failures));
            }
        }
        Task::Check { json } => {
            let report = check::run(settings, &sources).await;
            print(&if json { report.to_json() } else { report.to_string() });
            return Ok(if report.good { ExitCode::SUCCESS } else { ExitCode::from(FAILED) });
        }
        Task::Sql(_) | Task::Rows(_) | Task::Buckets(_) | Task::Backfill(_) => {
            let mut out = std::io::BufWriter::new(std::io::stdout().lock());
            match ask::run(&task, settings, &sources, &mut out).await {
                Err(AskError::Misused(problem)) => return Ok(misused("this cannot be asked", &[problem])),
                // A reader that has gone (`| head`) has seen what it wanted.
                Err(AskError::Write(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => {}
                answer => answer.map_err(|e| e.to_string())?,
            }
        }
        Task::Healthcheck | Task::Init(_) | Task::Config | Task::Completion(_) | Task::Man(_) => {
            unreachable!("main has done it: it needs no definitions or no database")
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Like `print!`, but a reader that has gone (`| head`) is no error.
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn misused(what: &str, problems: &[String]) -> ExitCode {
    let problems: Vec<String> = problems.iter().map(|problem| format!("  {problem}")).collect();
    log::fail(&format!("rsolv-exporter: {what}:\n{}", problems.join("\n")));
    ExitCode::from(MISUSED)
}

/// The environment; variables that are not Unicode are none of ours.
fn environment() -> std::collections::BTreeMap<String, String> {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect()
}
