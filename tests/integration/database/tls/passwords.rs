//! Where the password comes from, and its rotation.

use super::{Fixture, PASSWORD};
use crate::support::database::connect;
use crate::support::exporter::{self, Exporter};
use crate::support::metrics::Metrics;

#[tokio::test]
async fn a_password_that_is_missing() {
    let fixture = Fixture::new().await;
    fixture.serve(None);
    let url = fixture.url("scram", "host=db.example").replace(&format!(":{PASSWORD}"), "");
    let output = exporter::run(&["check", "--database.url", &url]).await;
    let said = String::from_utf8_lossy(&output.stdout);
    let expected = "the server wants a password, and none is given\n    -> put it into a file";
    assert!(output.status.code() == Some(1) && said.contains(expected), "{said}");
}

#[tokio::test]
async fn a_password_command_whose_password_is_rotated() {
    let fixture = Fixture::new().await;
    let (file, role) = (fixture.directory.path().join("password"), "tls_only");
    let certificate = fixture.authority.issue("db.example", &["db.example"]);
    fixture.serve(Some((&certificate.certificate(), &certificate.key())));
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let command = format!("cat {}; echo other-s3cret >&2", file.display());
    let url = fixture.url(role, "host=db.example").replace(&format!(":{PASSWORD}"), "");
    let exporter = Exporter::start(&url, &["--poll.interval", "500ms", "--database.password-command", &command]).await;
    rotate(&fixture, &exporter, role, |new| std::fs::write(&file, new).unwrap()).await;
}

#[tokio::test]
async fn a_password_file_that_is_rotated() {
    let fixture = Fixture::new().await;
    let (file, role) = (fixture.directory.path().join("password"), "tls_only");
    let certificate = fixture.authority.issue("db.example", &["db.example"]);
    fixture.serve(Some((&certificate.certificate(), &certificate.key())));
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let url = fixture.url(role, "host=db.example").replace(&format!(":{PASSWORD}"), "");
    let flags = ["--poll.interval", "500ms", "--database.password-file", file.to_str().unwrap()];
    let exporter = Exporter::start(&url, &flags).await;
    rotate(&fixture, &exporter, role, |new| std::fs::write(&file, new).unwrap()).await;
}

#[tokio::test]
async fn a_url_file_that_is_rotated() {
    let fixture = Fixture::new().await;
    let (file, role) = (fixture.directory.path().join("url"), "tls_only");
    let certificate = fixture.authority.issue("db.example", &["db.example"]);
    fixture.serve(Some((&certificate.certificate(), &certificate.key())));
    let url = fixture.url(role, "host=db.example");
    std::fs::write(&file, &url).unwrap();
    let flags = ["--poll.interval", "500ms", "--database.url-file", file.to_str().unwrap()];
    let arguments = [&flags[..], &["--web.listen-address", "127.0.0.1:0"]].concat();
    let exporter = Exporter::launch(&arguments, &[]).await.unwrap();
    rotate(&fixture, &exporter, role, |new| std::fs::write(&file, url.replace(PASSWORD, new)).unwrap()).await;
}

/// The old password is revoked and sessions are ended; the exporter is back soon after the file has the new one.
async fn rotate(fixture: &Fixture, exporter: &Exporter, role: &str, write: impl Fn(&str)) {
    let admin = connect(&fixture.cluster.socket_url("postgres")).await.unwrap();
    // There is no table to read, but there is a connection.
    let connected = |m: &Metrics| m.failures("missing") > 0.0;
    exporter.wait_for("a connection", connected).await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rsolv-exporter'";
    let change = format!("SET password_encryption = 'scram-sha-256'; ALTER ROLE {role} PASSWORD 'new-s3cret'; {end}");
    admin.batch_execute(&change).await.unwrap();
    let metrics = exporter.wait_for("a refusal", |m| m.failures("auth") > 0.0).await;
    let before = metrics.failures("missing");
    write("new-s3cret");
    exporter.wait_for("a connection", |m| m.failures("missing") > before).await;
    assert!(!exporter.log().contains("s3cret"), "{}", exporter.log());
}
