//! Arguments, command, exit status: 0; 1 could not do it; 2 wrong usage or configuration.

use std::collections::BTreeMap;
use std::process::ExitCode;

use rsolv_exporter::cli;
use rsolv_exporter::commands::unit;
use rsolv_exporter::telemetry::log;

fn main() -> ExitCode {
    share_heap();
    let arguments = cli::joined(std::env::args_os());
    let (subcommand, invocation) = cli::parse(&arguments, environment()).unwrap_or_else(|e| e.exit());
    let result = match invocation.text("unit") {
        Some(unit) => Err(unit::run(unit, subcommand, &arguments)),
        None => (subcommand.run)(&invocation),
    };
    result.unwrap_or_else(|error| {
        let status = error.exit_status();
        if status != 0 {
            log::fail(&format!("rsolv-exporter: {error}"));
        }
        ExitCode::from(status)
    })
}

/// The environment; variables that are not Unicode are none of ours.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect()
}

/// One heap for all threads: glibc gives those that render, compress and save one each, and what they free stays there.
fn share_heap() {
    // SAFETY: it sets a number of the allocator, and there is no other thread yet.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
