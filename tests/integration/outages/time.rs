//! Time that does not flow as it should: a machine that is suspended, a clock that is set or smeared.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::database::Database;
use crate::support::exporter::Exporter;
use crate::support::metrics::Metrics;
use crate::support::preload::library;
use crate::support::process;

const INTERVAL: Duration = Duration::from_millis(200);
const FLAGS: [&str; 4] = ["--poll.interval", "200ms", "--poll.stale-after", "1h"];

fn polls(metrics: &Metrics) -> f64 {
    metrics.sum("rsolv_exporter_polls_total", &[])
}

/// Polls begin no closer than their interval, whatever was missed: a second of them is watched.
async fn polls_do_not_burst(exporter: &Exporter) {
    let (began, before) = (Instant::now(), polls(&exporter.metrics().await));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let metrics = exporter.metrics().await;
    let due = began.elapsed().as_secs_f64() / INTERVAL.as_secs_f64();
    let begun = polls(&metrics) - before;
    // The interval is jittered; one more may just have begun at either end.
    assert!(begun <= due * 1.2 + 2.0, "{begun} polls, {due} were due");
    assert!(metrics.is_up());
}

#[tokio::test]
async fn after_a_suspended_machine_resumes_polls_go_on_without_a_burst() {
    let db = Database::new().await;
    let exporter = Exporter::start(&db.url(), &FLAGS).await;
    exporter.wait_for("a poll", Metrics::is_up).await;
    process::pause(exporter.pid());
    // Fifteen polls.
    tokio::time::sleep(INTERVAL * 15).await;
    process::signal(exporter.pid(), libc::SIGCONT);
    polls_do_not_burst(&exporter).await;
    exporter.wait_polls(2).await;
}

/// A library that is loaded before the system's adds the seconds in a file to the time of day, and to nothing else.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    const char *path = getenv("CLOCK_OFFSET");
    char text[50] = "";
    int file = clock == CLOCK_REALTIME && path ? syscall(SYS_openat, AT_FDCWD, path, O_RDONLY) : -1;
    if (file >= 0) {
        if (syscall(SYS_read, file, text, sizeof text - 1) < 0) text[0] = 0;
        close(file);
        long long nanos = time->tv_sec * 1000000000LL + time->tv_nsec + (long long) (atof(text) * 1e9);
        time->tv_sec = nanos / 1000000000;
        time->tv_nsec = nanos % 1000000000;
    }
    return result;
}
"#;

/// A day ahead, a day back, and slower or faster by a little for a while, as a leap second is smeared.
#[tokio::test]
async fn a_clock_that_is_set_or_smeared_changes_times_and_nothing_else() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let (library, file) = (library(folder.path(), CLOCK), folder.path().join("offset"));
    let set = |offset: f64| {
        let new = folder.path().join("new");
        std::fs::write(&new, offset.to_string()).unwrap();
        std::fs::rename(new, &file).unwrap();
    };
    set(0.0);
    let url = db.url();
    let flags = [&["--database.url", &url, "--web.listen-address", "127.0.0.1:0"][..], &FLAGS[..]].concat();
    let environment = [("LD_PRELOAD", library.as_str()), ("CLOCK_OFFSET", file.to_str().unwrap())];
    let exporter = Exporter::launch(&flags, &environment).await.unwrap();
    exporter.wait_for("a poll", Metrics::is_up).await;
    let smear = (1..=10).map(|step| f64::from(step) / 10.0);
    for offset in [86_400.0, -86_400.0].into_iter().chain(smear).chain([-1.0, 0.0]) {
        set(offset);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() + offset;
        let metrics = exporter.wait_polls(2).await;
        assert!(metrics.is_up());
        for name in ["last_success_timestamp_seconds", "source_last_success_timestamp_seconds"] {
            for sample in metrics.matching(&format!("rsolv_exporter_{name}"), &[]) {
                let age = sample.value - wall;
                assert!((-1.0..60.0).contains(&age), "{name} is {age} s from {offset}");
            }
        }
        if offset.abs() > 10.0 {
            polls_do_not_burst(&exporter).await;
            // Whether data are stale is a matter of time that has passed, not of the time of day.
            assert_eq!(exporter.get("/-/ready").await.status, 200);
        }
    }
}
