//! TLS and passwords to PostgreSQL: the same verdicts as libpq's.

mod certificates;
mod passwords;
mod variables;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use rsolv_exporter::config::{Layers, Settings};
use rsolv_exporter::postgres::{Failure, Reason};

use crate::support::certificates::Certificate;
use crate::support::cluster::Cluster;
use crate::support::database::connect;
use crate::support::exporter::Exporter;
use crate::support::metrics::Metrics;

/// Who may come in how, by pg_hba.conf.
const ACCESS: &str = "local all all trust
hostssl all tls_only 127.0.0.1/32 scram-sha-256
hostnossl all plain_only 127.0.0.1/32 scram-sha-256
hostssl all certified 127.0.0.1/32 cert
host all scram 127.0.0.1/32 scram-sha-256
host all hashed 127.0.0.1/32 md5
host all postgres 127.0.0.1/32 trust
";

const PASSWORD: &str = "tls-s3cret";

/// A server with TLS, and the files that clients need.
struct Fixture {
    cluster: Cluster,
    directory: tempfile::TempDir,
    authority: Certificate,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cluster = Cluster::start(&[
            ("ssl_ca_file", "root.crt"),
            ("ssl_cert_file", "server.crt"),
            ("ssl_key_file", "server.key"),
        ]);
        let (cluster, authority) = (cluster.unwrap(), Certificate::authority("root.example"));
        let client = connect(&cluster.socket_url("postgres")).await.unwrap();
        for (role, encryption) in [
            ("tls_only", "scram-sha-256"),
            ("plain_only", "scram-sha-256"),
            ("certified", "scram-sha-256"),
            ("scram", "scram-sha-256"),
            ("hashed", "md5"),
        ] {
            let role =
                format!("SET password_encryption = '{encryption}'; CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'");
            client.batch_execute(&role).await.unwrap();
        }
        drop(client);
        authority.write(directory.path(), "root");
        Certificate::authority("root.example").write(directory.path(), "wrong");
        authority.issue("certified", &[]).write(directory.path(), "client");
        authority.issue("somebody", &[]).write(directory.path(), "somebody");
        Certificate::authority("certified").write(directory.path(), "self");
        cluster.write("pg_hba.conf", ACCESS).unwrap();
        cluster.write("root.crt", &authority.certificate()).unwrap();
        Self { cluster, directory, authority }
    }

    /// Restarts the server with another certificate, or without any.
    fn serve(&self, certificate: Option<(&str, &str)>) {
        self.cluster.stop_fast().unwrap();
        self.cluster.configure(&[("ssl", if certificate.is_some() { "on" } else { "off" })]).unwrap();
        if let Some((certificate, key)) = certificate {
            self.cluster.write("server.crt", certificate).unwrap();
            self.cluster.write("server.key", key).unwrap();
        }
        self.cluster.start_again().unwrap();
    }

    /// Runs `openssl` among the files for clients.
    fn openssl(&self, arguments: &str, more: &[&str]) {
        let mut openssl = Command::new("openssl");
        openssl.args(arguments.split(' ')).args(more).current_dir(self.directory.path());
        let output = openssl.output().expect("openssl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Restarts the server with the certificate in `server.crt` and `server.key` among those files.
    fn serve_files(&self) {
        let read = |file| std::fs::read_to_string(self.directory.path().join(file)).unwrap();
        self.serve(Some((&read("server.crt"), &read("server.key"))));
    }

    /// The URL with these parameters, in which ROOT, WRONG and so on stand for files, and HOST for a name of the server.
    fn url(&self, user: &str, parameters: &str) -> String {
        let port = self.cluster.port();
        let directory = self.directory.path().to_str().unwrap();
        let parameters = parameters.replace("DIR", directory);
        format!("postgresql://{user}:{PASSWORD}@/postgres?hostaddr={}&port={port}&{parameters}", Ipv4Addr::LOCALHOST)
    }

    /// The exporter's verdict: whether there is TLS, or why there is no connection.
    async fn ours(&self, url: &str, environment: &[(&str, String)]) -> Result<bool, Failure> {
        let flags = [("database.url", url), ("database.connect_timeout", "30s")];
        let flags = flags.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let home = [("HOME", self.directory.path().display().to_string())];
        let environment = home.iter().chain(environment).map(|(name, value)| (name.to_string(), value.clone()));
        let layers = Layers::new(None, environment.collect(), BTreeMap::from(flags)).unwrap();
        let target = Settings::check(&layers).map(|settings| settings.target);
        let target = target.map_err(|invalid| Failure::new(Reason::Tls, invalid[0].to_string()))?;
        let session = target.connect().await?;
        let row = session.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await?;
        row.get(0)
    }

    /// libpq's verdict.
    fn theirs(&self, url: &str, environment: &[(&str, String)]) -> Result<bool, String> {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-w", "-A", "-t", "-c", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", url]);
        // Without files of its user's that it would read.
        psql.env("HOME", self.directory.path()).env("LC_ALL", "C").stdin(Stdio::null());
        psql.envs(environment.iter().map(|(name, value)| (name, value)));
        let output = psql.output().expect("psql, from the package postgresql-client");
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() { Ok(text == "t") } else { Err(String::from_utf8_lossy(&output.stderr).into()) }
    }

    /// Compares the verdicts for each case; `expected` is `TLS`, `plain`, or the reason of a failure (or several). After
    /// `ours:` that of the installed libpq may be another one.
    async fn compare(&self, cases: &[(&str, &str, &str)]) {
        for (user, parameters, expected) in cases {
            self.compare_url(&self.url(user, parameters), &[], expected).await;
        }
    }

    /// The same for one URL, with variables in the environment.
    async fn compare_url(&self, url: &str, environment: &[(&str, String)], expected: &str) {
        let (ours, theirs) = (self.ours(url, environment).await, self.theirs(url, environment));
        let verdict = match &ours {
            Ok(true) => "TLS",
            Ok(false) => "plain",
            Err(failure) => failure.reason.as_str(),
        };
        if let Err(failure) = &ours {
            assert!(!failure.message.contains(PASSWORD), "{}", failure.message);
        }
        let alone = expected.strip_prefix("ours:");
        let as_expected = alone.unwrap_or(expected).split('|').any(|expected| expected == verdict);
        if !as_expected || alone.is_none() && ours.as_ref().ok() != theirs.as_ref().ok() {
            panic!("{url} {environment:?}: expected {expected}\n  ours   {ours:?}\n  libpq  {theirs:?}");
        }
    }
}

#[tokio::test]
async fn the_same_verdicts_as_libpq() {
    let fixture = Fixture::new().await;
    let certificate = fixture.authority.issue("db.example", &["db.example", "127.0.0.1"]);
    fixture.serve(Some((&certificate.certificate(), &certificate.key())));
    fixture
        .compare(&[
            ("scram", "host=db.example", "TLS"),
            ("scram", "host=db.example&sslmode=disable", "plain"),
            ("scram", "host=db.example&sslmode=allow", "plain"),
            ("scram", "host=db.example&sslmode=prefer", "TLS"),
            ("scram", "host=db.example&sslmode=require", "TLS"),
            ("scram", "sslmode=require", "TLS"),
            ("scram", "host=db.example&sslmode=verify-ca&sslrootcert=DIR/root.crt", "TLS"),
            ("scram", "host=other.example&sslmode=verify-ca&sslrootcert=DIR/root.crt", "TLS"),
            ("scram", "host=db.example&sslmode=verify-full&sslrootcert=DIR/root.crt", "TLS"),
            ("scram", "host=127.0.0.1&sslmode=verify-full&sslrootcert=DIR/root.crt", "TLS"),
            ("scram", "host=other.example&sslmode=verify-full&sslrootcert=DIR/root.crt", "tls"),
            ("scram", "host=db.example&sslmode=require&sslrootcert=DIR/root.crt", "TLS"),
            // An authority that has not signed it, of the same name.
            ("scram", "host=db.example&sslmode=require&sslrootcert=DIR/wrong.crt", "tls"),
            ("scram", "host=db.example&sslmode=verify-ca&sslrootcert=DIR/wrong.crt", "tls"),
            ("scram", "host=db.example&sslmode=verify-full&sslrootcert=DIR/wrong.crt", "tls"),
            ("scram", "host=db.example&sslmode=prefer&sslrootcert=DIR/wrong.crt", "plain"),
            ("scram", "host=db.example&sslmode=verify-full&sslrootcert=DIR/nowhere.crt", "tls"),
            ("tls_only", "host=db.example&sslmode=disable", "auth"),
            ("tls_only", "host=db.example&sslmode=allow", "TLS"),
            ("tls_only", "host=db.example&sslmode=prefer", "TLS"),
            ("plain_only", "host=db.example&sslmode=require", "auth"),
            ("plain_only", "host=db.example&sslmode=prefer", "plain"),
            ("hashed", "host=db.example&sslmode=disable", "plain"),
            ("hashed", "host=db.example&sslmode=require", "TLS"),
            ("scram", "host=db.example&channel_binding=require", "TLS"),
            ("scram", "host=db.example&sslmode=disable&channel_binding=require", "auth"),
            ("scram", "host=db.example&channel_binding=disable", "TLS"),
            ("hashed", "host=db.example&channel_binding=require", "auth"),
            ("scram", "host=db.example&password=wrong", "auth"),
            ("nobody", "host=db.example", "auth"),
            ("certified", "host=db.example&sslmode=require&sslcert=DIR/client.crt&sslkey=DIR/client.key", "TLS"),
            ("certified", "host=db.example&sslmode=require", "auth"),
            ("certified", "host=db.example&sslmode=require&sslcert=DIR/somebody.crt&sslkey=DIR/somebody.key", "auth"),
            // With TLS 1.3 the server refuses after the handshake, and its reset can overtake its reason.
            ("certified", "host=db.example&sslmode=require&sslcert=DIR/self.crt&sslkey=DIR/self.key", "tls|connect"),
            ("certified", "host=db.example&sslmode=require&sslcert=DIR/client.crt&sslkey=DIR/self.key", "tls"),
        ])
        .await;

    let expired = fixture.authority.issue_expired("db.example", &["db.example"]);
    fixture.serve(Some((&expired.certificate(), &expired.key())));
    fixture
        .compare(&[
            ("scram", "host=db.example&sslmode=require", "TLS"),
            ("scram", "host=db.example&sslmode=verify-ca&sslrootcert=DIR/root.crt", "tls"),
            ("scram", "host=db.example&sslmode=verify-full&sslrootcert=DIR/root.crt", "tls"),
        ])
        .await;

    fixture.serve(None);
    fixture
        .compare(&[
            ("scram", "host=db.example&sslmode=prefer", "plain"),
            ("scram", "host=db.example&sslmode=require", "tls"),
            ("scram", "host=db.example&sslmode=verify-full&sslrootcert=DIR/root.crt", "tls"),
        ])
        .await;
}

/// The real program: a failure is counted under its reason and logged without the password.
#[tokio::test]
async fn what_is_refused_is_counted_and_logged() {
    let fixture = Fixture::new().await;
    let certificate = fixture.authority.issue("db.example", &["db.example"]);
    fixture.serve(Some((&certificate.certificate(), &certificate.key())));
    for (parameters, reason, said) in [
        ("host=db.example&sslmode=verify-ca&sslrootcert=DIR/wrong.crt", "tls", "certificate verify failed"),
        ("host=db.example&password=wr0ng-s3cret", "auth", "password authentication failed for user"),
    ] {
        let url = fixture.url("scram", parameters);
        let exporter = Exporter::start(&url, &["--poll.interval", "500ms", "--poll.stale-after", "1s"]).await;
        let what = format!("a failure with reason {reason}");
        let failed = |m: &Metrics| !m.is_up() && m.failures(reason) > 1.0;
        let page = exporter.wait_for(&what, failed).await.text;
        let log = exporter.log();
        assert_eq!(log.matches(said).count(), 1, "{log}");
        let status = exporter.get("/").await.text();
        assert!(!format!("{page}{log}{status}").contains("s3cret"), "{log}");
    }
}
