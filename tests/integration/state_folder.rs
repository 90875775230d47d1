//! The state's folder when others can write to it, and its disk when it hangs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::state::State;
use crate::support::database::Database;
use crate::support::execution::Validation;
use crate::support::exporter::Exporter;
use crate::support::metrics::Metrics;

fn saved(metrics: &Metrics) -> bool {
    metrics.value("rsolv_exporter_state_up", &[]) == Some(1.0)
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

/// A library that is loaded before the system's makes `fsync` of the exporter hang while there is a file.
const HANG: &str = r#"
#include <stdlib.h>
#include <unistd.h>
#include <sys/syscall.h>
int fsync(int file) {
    while (access(getenv("HANG_WHILE"), F_OK) == 0) usleep(10000);
    return syscall(SYS_fsync, file);
}
"#;

fn library(folder: &Path) -> String {
    let (source, library) = (folder.join("hang.c"), folder.join("hang.so"));
    fs::write(&source, HANG).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(built.expect("cc, which Rust needs as well").success());
    library.display().to_string()
}

#[tokio::test]
async fn a_disk_that_hangs_holds_up_neither_polls_nor_the_end() {
    let (database, state) = (Database::new().await, State::new());
    let tools = tempfile::tempdir().unwrap();
    let (library, hangs) = (library(tools.path()), tools.path().join("hangs"));
    let url = database.url();
    let flags = ["--database.url", &url, "--web.listen-address", "127.0.0.1:0", "--poll.interval", "100ms"];
    let flags = [&flags[..], &["--series.birth-hold", "0s", "--state.file", state.path.to_str().unwrap()]].concat();
    let environment = [("LD_PRELOAD", library.as_str()), ("HANG_WHILE", hangs.to_str().unwrap())];
    let mut exporter = Exporter::launch(&flags, &environment).await.unwrap();
    exporter.wait_for("a saved state", saved).await;
    fs::write(&hangs, "").unwrap();
    let failed = |m: &Metrics| !saved(m) && m.sum("rsolv_exporter_state_save_failures_total", &[]) >= 1.0;
    exporter.wait_for("a failure to save", failed).await;
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
    let began = Instant::now();
    exporter.terminate().await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}
