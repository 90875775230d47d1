//! The state's folder when others can write to it, and its disk when it hangs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::database::Database;
use crate::support::execution::Validation;
use crate::support::exporter::Exporter;
use crate::support::metrics::Metrics;
use crate::support::preload::library;
use crate::support::state::State;

fn saved(metrics: &Metrics) -> bool {
    metrics.value("rsolv_exporter_state_up", &[]) == Some(1.0)
}

fn failures(metrics: &Metrics) -> f64 {
    metrics.sum("rsolv_exporter_state_save_failures_total", &[])
}

/// What others can put into the folder beforehand.
#[tokio::test]
async fn in_a_shared_folder_the_state_is_private_and_what_is_there_already_is_left_alone() {
    let (database, state) = (Database::new().await, State::new());
    let folder = state.path.parent().expect("a folder");
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
    let victim = folder.join("victim");
    fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, folder.join("state.lock")).unwrap();
    let pipe = Command::new("mkfifo").args(["-m", "666"]).arg(folder.join("state.new")).status();
    assert!(pipe.expect("mkfifo").success());
    let exporter = state.exporter(&database, &[]).await;
    exporter.wait_for("a saved state", saved).await;
    exporter.wait_polls(2).await;
    for name in ["state", "state.lock"] {
        let found = fs::symlink_metadata(folder.join(name)).unwrap();
        assert!(found.is_file() && found.mode() & 0o777 == 0o600, "{name}: {:o}", found.mode());
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    let log = exporter.log();
    assert!(log.contains("other users can write to the folder of the state") && log.contains(folder.to_str().unwrap()));
}

/// A library that is loaded before the system's makes faults: `fsync` hangs while there is a file, and a call fails for a
/// path that ends so as another file says (`call ending errno`).
const FAULTS: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/syscall.h>

static int fails(const char *call, const char *path) {
    char text[200] = "", name[20], end[100];
    int code = 0, saved = errno;
    const char *fault = getenv("FAULT");
    int file = fault ? syscall(SYS_openat, AT_FDCWD, fault, O_RDONLY) : -1;
    if (file >= 0) {
        if (syscall(SYS_read, file, text, sizeof text - 1) < 0) text[0] = 0;
        close(file);
    }
    errno = saved;
    if (sscanf(text, "%19s %99s %d", name, end, &code) != 3 || strcmp(name, call)) return 0;
    size_t length = strlen(path), tail = strlen(end);
    if (length < tail || strcmp(path + length - tail, end)) return 0;
    errno = code;
    return 1;
}
static int fails_of(const char *call, int file) {
    char link[40], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    return fails(call, path);
}
int fsync(int file) {
    const char *hang = getenv("HANG_WHILE");
    while (hang && access(hang, F_OK) == 0) usleep(10000);
    return fails_of("fsync", file) ? -1 : syscall(SYS_fsync, file);
}
int flock(int file, int how) { return fails_of("flock", file) ? -1 : syscall(SYS_flock, file, how); }
ssize_t write(int file, const void *bytes, size_t size) {
    return file > 2 && fails_of("write", file) ? -1 : syscall(SYS_write, file, bytes, size);
}
int rename(const char *from, const char *to) {
    return fails("rename", to) ? -1 : syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int mode = flags & O_CREAT ? va_arg(more, int) : 0;
    va_end(more);
    return fails("open", path) ? -1 : syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
"#;

#[tokio::test]
async fn a_disk_that_hangs_holds_up_neither_polls_nor_the_end() {
    let (database, state) = (Database::new().await, State::new());
    let tools = tempfile::tempdir().unwrap();
    let (library, hangs) = (library(tools.path(), FAULTS), tools.path().join("hangs"));
    let url = database.url();
    let flags = ["--database.url", &url, "--web.listen-address", "127.0.0.1:0", "--poll.interval", "100ms"];
    let flags = [&flags[..], &["--series.birth-hold", "0s", "--state.file", state.path.to_str().unwrap()]].concat();
    let environment = [("LD_PRELOAD", library.as_str()), ("HANG_WHILE", hangs.to_str().unwrap())];
    let mut exporter = Exporter::launch(&flags, &environment).await.unwrap();
    exporter.wait_for("a saved state", saved).await;
    fs::write(&hangs, "").unwrap();
    let failed = |m: &Metrics| !saved(m) && m.sum("rsolv_exporter_state_save_failures_total", &[]) >= 1.0;
    let metrics = exporter.wait_for("a failure to save", failed).await;
    let took = metrics.value("rsolv_exporter_state_save_duration_seconds", &[]);
    assert!(took.is_some_and(|took| took >= 10.0 || took < 1.0 && failures(&metrics) > 1.0), "{took:?}");
    let repo = database.repository("org/a").await;
    database.insert(Validation::completed(repo, "{}")).await;
    let counted = |m: &Metrics| m.sum("rsolv_validation_executions_total", &[]) == 1.0;
    exporter.wait_for("a row that is counted all the same", counted).await;
    exporter.wait_polls(3).await;
    assert_eq!(exporter.log().matches("does the disk hang?").count(), 1, "{}", exporter.log());
    fs::remove_file(&hangs).unwrap();
    exporter.wait_for("a saved state", saved).await;
    fs::write(&hangs, "").unwrap();
    exporter.wait_for("a failure to save", failed).await;
    // Also while the disk hangs.
    exporter.terminate().await;
}

/// An exporter whose calls fail as the file says that is returned with it.
async fn faulty(database: &Database<'_>, state: &State, tools: &Path, fault: &str) -> (Exporter, PathBuf) {
    let (library, file) = (library(tools, FAULTS), tools.join("fault"));
    fs::write(&file, fault).unwrap();
    let url = database.url();
    let flags = ["--database.url", &url, "--web.listen-address", "127.0.0.1:0", "--poll.interval", "100ms"];
    let flags = [&flags[..], &["--state.file", state.path.to_str().unwrap()]].concat();
    let environment = [("LD_PRELOAD", library.as_str()), ("FAULT", file.to_str().unwrap())];
    (Exporter::launch(&flags, &environment).await.unwrap(), file)
}

#[tokio::test]
async fn what_a_file_system_cannot_do_is_said_once_and_the_state_is_saved() {
    let database = Database::new().await;
    let cases = [
        ("fsync", "folder", libc::EINVAL, "does not support fsync"),
        ("fsync", "state.new", libc::EOPNOTSUPP, "does not support fsync"),
        ("flock", "state.lock", libc::ENOLCK, "a second rsolv-exporter with this state.file would not be noticed"),
        ("flock", "state.lock", libc::EOPNOTSUPP, "a second rsolv-exporter with this state.file would not be noticed"),
        ("flock", "state.lock", libc::ENOSYS, "a second rsolv-exporter with this state.file would not be noticed"),
    ];
    for (call, end, code, said) in cases {
        let (state, tools) = (State::new(), tempfile::tempdir().unwrap());
        let end = if end == "folder" { state.path.parent().unwrap().to_str().unwrap() } else { end };
        let (exporter, _) = faulty(&database, &state, tools.path(), &format!("{call} {end} {code}")).await;
        exporter.wait_for("a saved state", saved).await;
        let metrics = exporter.wait_polls(2).await;
        assert!(saved(&metrics) && failures(&metrics) == 0.0 && state.path.exists(), "{call} {end}");
        let log = exporter.log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(said)).collect();
        let [line] = lines[..] else { panic!("{said}, once: {log}") };
        assert!(line.contains("level=warn") && line.contains(state.path.to_str().unwrap()), "{line}");
    }
}

#[tokio::test]
async fn what_keeps_the_state_from_being_saved_is_said_once_with_path_and_remedy() {
    let (database, state, tools) = (Database::new().await, State::new(), tempfile::tempdir().unwrap());
    let (exporter, fault) = faulty(&database, &state, tools.path(), "").await;
    exporter.wait_for("a saved state", saved).await;
    let folder = state.path.parent().unwrap().to_str().unwrap();
    let denied = format!(" (os error 13): let user 0 write to {folder} (chown, chmod); if it may, look for a denial");
    let full = " (os error 28): make room there, or move state.file";
    let cases = [
        ("open", "state.new", libc::EACCES, format!("cannot write {folder}/state.new: Permission denied{denied}")),
        ("write", "state.new", libc::EACCES, format!("cannot write {folder}/state.new: Permission denied{denied}")),
        ("write", "state.new", libc::ENOSPC, format!("cannot write {folder}/state.new: No space left on device{full}")),
        ("fsync", "state.new", libc::ENOSPC, format!("cannot write {folder}/state.new: No space left on device{full}")),
        ("fsync", "state.new", libc::EIO, format!("cannot write {folder}/state.new: Input/output error")),
        ("rename", "state", libc::EACCES, format!("cannot replace {folder}/state: Permission denied{denied}")),
        (
            "rename",
            "state",
            libc::EROFS,
            format!(
                "cannot replace {folder}/state: Read-only file system (os error 30): its file system is read-only: mount it for writing, or move state.file"
            ),
        ),
        ("open", folder, libc::EACCES, format!("cannot sync {folder}: Permission denied{denied}")),
    ];
    for (call, end, code, said) in cases {
        let before = exporter.log().len();
        fs::write(&fault, format!("{call} {end} {code}")).unwrap();
        exporter.wait_for("a failure to save", |m| !saved(m)).await;
        exporter.wait_polls(2).await;
        let log = exporter.log().split_off(before);
        assert_eq!(log.matches(&said).count(), 1, "{said}\n{log}");
        fs::write(&fault, "").unwrap();
        exporter.wait_for("a saved state", saved).await;
    }
}
