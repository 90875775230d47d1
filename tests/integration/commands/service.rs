//! The process as a service manager sees it: signals, readiness, priorities in the journal, and where it listens.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use crate::support::database::Database;
use crate::support::exporter::{Exporter, program, run};
use crate::support::http;
use crate::support::process::{self, PATIENCE};

/// A database that refuses at once.
const NOWHERE: &str = "postgres://nobody@127.0.0.1:1/none";

/// Waits until the log has a line with `text`.
async fn logged(exporter: &Exporter, text: &str) {
    exporter.wait_for(&format!("{text:?} in the log"), |_| exporter.log().contains(text)).await;
}

#[tokio::test]
async fn sighup_reads_the_web_configuration_again_and_ends_nothing() {
    let mut plain = Exporter::start(NOWHERE, &[]).await;
    process::signal(plain.pid(), libc::SIGHUP);
    logged(&plain, "SIGHUP: there is no web.config_file to read again").await;
    assert!(plain.runs());
    assert_eq!(plain.get("/-/healthy").await.status, 200);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("web.yml");
    std::fs::write(&file, "http_server_config: {headers: {X-Frame-Options: deny}}\n").unwrap();
    let mut exporter = Exporter::start(NOWHERE, &["--web.config.file", file.to_str().unwrap()]).await;
    // Unchanged, it would not be read by itself.
    process::signal(exporter.pid(), libc::SIGHUP);
    logged(&exporter, "the web configuration has been read again and is in force").await;
    std::fs::write(&file, "http_server_config: {colour: red}\n").unwrap();
    process::signal(exporter.pid(), libc::SIGHUP);
    logged(&exporter, "the old one stays").await;
    assert!(exporter.runs());
    assert_eq!(exporter.get("/-/reload").await.status, 404);
    assert!(exporter.get("/-/reload").await.text().contains("SIGHUP"));
    assert!(exporter.terminate().await.success());
}

#[tokio::test]
async fn the_service_manager_is_told_what_it_does() {
    let (database, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = |start: &str| {
        let mut buffer = [0; 4096];
        loop {
            let length = socket.recv(&mut buffer).expect("a message in time");
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.starts_with(start) {
                return text;
            }
        }
    };
    let url = database.url();
    let flags = ["--database.url", &url, "--web.listen-address", "127.0.0.1:0", "--poll.interval", "200ms"];
    let notify = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let mut exporter = Exporter::launch(&flags, &notify).await.unwrap();
    told("READY=1");
    assert!(told("STATUS=").starts_with("STATUS=2 sources read in "));
    database.batch("ALTER TABLE validation_executions RENAME TO gone").await;
    let failure = told("STATUS=trying again");
    assert!(failure.contains("(missing)") && failure.contains("validation_executions"), "{failure}");
    exporter.terminate().await;
    told("STOPPING=1");
}

#[tokio::test]
async fn lines_in_the_journal_carry_their_priority() {
    let folder = tempfile::tempdir().unwrap();
    let lines = |name: &str, journal: Option<&str>, arguments: &[&str]| {
        let path = folder.path().join(name);
        let stderr = File::create(&path).unwrap();
        let metadata = stderr.metadata().unwrap();
        let stream = journal.map_or_else(|| format!("{}:{}", metadata.dev(), metadata.ino()), str::to_owned);
        let status = Command::new(program())
            .args(arguments)
            .env("JOURNAL_STREAM", stream)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .status();
        assert!(!status.unwrap().success());
        std::fs::read_to_string(path).unwrap()
    };
    let once = ["once", "--database.url", NOWHERE];
    for line in lines("once", None, &once).lines() {
        let level = if line.contains("level=info") { "<6>" } else { "<3>" };
        assert!(line.starts_with(level), "{line}");
    }
    // It warns that it leaves the state alone.
    let json = lines("json", None, &[&once[..], &["--log.format=json", "--state.file=state"]].concat());
    assert!(json.lines().any(|line| line.starts_with("<4>{")), "{json}");
    let misused = lines("misused", None, &["--database.url", NOWHERE, "--poll.interval=x"]);
    assert!(misused.lines().all(|line| line.starts_with("<3>")) && misused.lines().count() == 2, "{misused}");
    // A stream that somebody has redirected since is not the journal.
    assert!(!lines("file", Some("1:1"), &once).contains('<'));
}

#[tokio::test]
async fn it_listens_on_every_address_that_it_is_given() {
    let reached = async |address: &str| http::request(address, "GET", "/-/healthy", &[]).await.is_ok();
    let exporter = Exporter::launch(&["--database.url", NOWHERE, "--web.listen-address", ":0"], &[]).await.unwrap();
    let port = exporter.address.rsplit_once(':').unwrap().1;
    assert!(reached(&format!("127.0.0.1:{port}")).await);
    assert!(reached(&format!("localhost:{port}")).await);
    let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    assert_eq!(reached(&format!("[::1]:{port}")).await, has_ipv6);

    let flags = ["--database.url", NOWHERE, "--web.listen-address", "localhost:0", "--web.listen-address=127.0.0.1:0"];
    let exporter = Exporter::launch(&flags, &[]).await.unwrap();
    logged(&exporter, "msg=\"the database cannot be read").await;
    let log = exporter.log();
    let listening = log.lines().filter(|line| line.contains("msg=listening"));
    let addresses: Vec<&str> =
        listening.map(|line| line.split("address=").nth(1).unwrap().split(' ').next().unwrap()).collect();
    assert!(addresses.len() >= 2, "{addresses:?}");
    for address in addresses {
        assert!(reached(address.trim_matches('"')).await, "{address}");
        let healthy =
            run(&["healthcheck", "--web.listen-address", "127.0.0.1:1", "--web.listen-address", address]).await;
        assert!(healthy.status.success(), "{healthy:?}");
    }
}

#[tokio::test]
async fn sockets_are_taken_from_the_service_manager_or_missed() {
    let output = run(&["--database.url", NOWHERE, "--web.systemd-socket"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no socket was passed on (LISTEN_FDS)"), "{output:?}");
}

#[tokio::test]
async fn the_first_line_says_what_starts_and_who_set_what() {
    let flags = ["--database.url", NOWHERE, "--web.listen-address", "127.0.0.1:0"];
    let exporter = Exporter::launch(&flags, &[("RSOLV_EXPORTER_POLL__INTERVAL", "1s")]).await.unwrap();
    let log = exporter.log();
    let first = log.lines().next().unwrap();
    for part in [
        "msg=starting",
        concat!("version=", env!("CARGO_PKG_VERSION")),
        "revision=",
        "database.url (--database.url)",
        "poll.interval (RSOLV_EXPORTER_POLL__INTERVAL)",
    ] {
        assert!(first.contains(part), "{part}: {first}");
    }
    let metrics = exporter.metrics().await.text;
    let info = metrics.lines().find(|line| line.starts_with("rsolv_exporter_build_info{")).unwrap();
    let version = run(&["--version"]).await;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    for label in ["version", "revision", "date", "rustc"] {
        let value = info.split(&format!("{label}=\"")).nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        assert!(!value.is_empty() && version.contains(value), "{label}: {info} {version}");
    }
}

#[tokio::test]
async fn a_state_of_another_user_ends_the_start_with_the_command_that_mends_it() {
    use std::os::unix::process::CommandExt;
    // SAFETY: it reads a number.
    if unsafe { libc::geteuid() } != 0 {
        return;
    }
    // Not below the folder of this user's: nobody else may enter that.
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let state = folder.path().join("state");
    std::fs::write(&state, "").unwrap();
    std::os::unix::fs::chown(folder.path(), Some(65534), Some(65534)).unwrap();
    std::fs::set_permissions(&state, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let copy = folder.path().join("rsolv-exporter");
    // By another process: a file that this one writes can still be open in a child that another test starts now.
    assert!(Command::new("cp").arg(program()).arg(&copy).status().unwrap().success());
    let output = Command::new(copy)
        .args(["--database.url", NOWHERE, "--web.listen-address", "127.0.0.1:0", "--state.file"])
        .arg(&state)
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "a service manager must not try again: {said}");
    let (folder, state) = (folder.path().display(), state.display());
    assert!(said.contains(&format!("chown --reference={folder} {state}")), "{said}");
}
