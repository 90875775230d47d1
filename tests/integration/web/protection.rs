//! TLS, users and limits, as `web.config_file` sets them and as they change.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::database::Database;
use crate::support::exporter::{self, Exporter};
use crate::support::metrics::Metrics;
use crate::support::process::{PATIENCE, TICK};
use crate::support::prometheus::Prometheus;
use crate::support::scratch::Scratch;

/// A directory with a certificate authority, to make certificates and web configurations in.
pub struct Files(Scratch);

impl Files {
    pub fn new() -> Self {
        let files = Self(Scratch::new("web", &std::env::temp_dir(), None).expect("a directory"));
        for authority in ["ca", "other"] {
            files.openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={authority} -keyout {authority}.key -out {authority}.crt"
            ));
        }
        files.certificate("server", "ca", "localhost");
        files
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file, or replaces one as a whole: half of it would be a change as well.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let (new, path) = (self.path("new"), self.path(name));
        fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).expect("a file");
        path.display().to_string()
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(self.0.path()).output();
        let output = output.expect("the program openssl, which tests/setup.sh web installs");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Makes `name.crt` and `name.key`, signed by an authority, for a host `san` and the address 127.0.0.1.
    pub fn certificate(&self, name: &str, authority: &str, san: &str) {
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -addext subjectAltName=DNS:{san},IP:127.0.0.1 -keyout {name}.new -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {authority}.crt -CAkey {authority}.key -days 2 -copy_extensions copy -out {name}.crt"
        ));
        fs::rename(self.path(&format!("{name}.new")), self.path(&format!("{name}.key"))).expect("the key");
    }

    /// Runs curl in the directory; `path` is below the exporter's address.
    pub fn curl(&self, exporter: &Exporter, scheme: &str, path: &str, arguments: &str) -> Answer {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}"]);
        command.args(arguments.split_whitespace()).arg(format!("{scheme}://{}{path}", exporter.address));
        let output = command.current_dir(self.0.path()).output();
        Answer::from(output.expect("the program curl, which tests/setup.sh web installs"))
    }

    /// The same with a patience: until `good` is the answer.
    pub fn curl_until(
        &self,
        exporter: &Exporter,
        path: &str,
        arguments: &str,
        good: impl Fn(&Answer) -> bool,
    ) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.curl(exporter, "https", path, arguments);
            if good(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "in vain: {arguments} {answer:?}\n{}", exporter.log());
        }
    }
}

/// What curl got.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub text: String,
    pub error: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (text, status) = text.rsplit_once('\n').expect("the status in the last line");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        Self { status: status.parse().expect("a status"), text: text.to_owned(), error }
    }
}

pub const TLS: &str = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n";
const MUTUAL: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  client_ca_file: ca.crt\n  \
                      client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: [prometheus]\n";

pub fn users(pairs: &[(&str, &str)]) -> String {
    let line = |(user, password): &(&str, &str)| format!("  {user}: {}\n", bcrypt::hash(password, 6).expect("a hash"));
    format!("basic_auth_users:\n{}", pairs.iter().map(line).collect::<String>())
}

pub async fn start(db: &Database<'_>, config: &str) -> Exporter {
    Exporter::start(&db.url(), &["--web.config.file", config]).await
}

#[tokio::test]
async fn prometheus_scrapes_with_tls_a_client_certificate_and_a_password() {
    let (db, files) = (Database::new().await, Files::new());
    files.certificate("client", "ca", "prometheus");
    let config = files.write("web.yml", &(MUTUAL.to_owned() + &users(&[("prom", "s3cret")])));
    let exporter = start(&db, &config).await;
    let read = |name: &str| fs::read_to_string(files.path(name)).expect("a file");
    let scrape = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: rsolv-exporter\n  scheme: https\n  \
         basic_auth: {{username: prom, password: s3cret}}\n  \
         tls_config: {{ca_file: ca.crt, cert_file: client.crt, key_file: client.key, server_name: localhost}}\n  \
         static_configs: [{{targets: ['{}']}}]\n",
        exporter.address
    );
    let (ca, certificate, key) = (read("ca.crt"), read("client.crt"), read("client.key"));
    let beside = [("ca.crt", ca.as_str()), ("client.crt", certificate.as_str()), ("client.key", key.as_str())];
    let prometheus = Prometheus::start(&scrape, &beside).await.expect("a running Prometheus");
    prometheus.wait_up("rsolv-exporter").await;
    assert!(!exporter.log().contains("s3cret") && !exporter.log().contains("$2"), "{}", exporter.log());
}

#[tokio::test]
async fn a_client_needs_a_certificate_for_an_allowed_name() {
    let (db, files) = (Database::new().await, Files::new());
    files.certificate("client", "ca", "prometheus");
    files.certificate("stranger", "ca", "grafana");
    files.certificate("forged", "other", "prometheus");
    let exporter = start(&db, &files.write("web.yml", MUTUAL)).await;
    let with = |name: &str| format!("--cacert ca.crt --cert {name}.crt --key {name}.key");
    let good = files.curl(&exporter, "https", "/metrics", &with("client"));
    assert_eq!(good.status, 200, "{good:?}");
    for arguments in ["--cacert ca.crt".to_owned(), with("stranger"), with("forged"), with("server")] {
        for version in ["--tlsv1.3", "--tls-max 1.2"] {
            let bad = files.curl(&exporter, "https", "/-/healthy", &format!("{version} {arguments}"));
            assert_eq!(bad.status, 0, "{arguments}: {bad:?}");
            assert!(bad.error.contains("alert"), "it learns why: {bad:?}");
        }
    }
    // It cannot present one either, and the exporter works.
    let flags = ["healthcheck", "--web.listen-address", &exporter.address];
    let config = ["--web.config.file", &files.path("web.yml").display().to_string()];
    let output = exporter::run(&[&flags[..], &config].concat()).await;
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn versions_and_suites_are_as_configured() {
    let (db, files) = (Database::new().await, Files::new());
    let tls = |more: &str| TLS.replace('}', &format!(", {more}}}"));
    for (config, good, bad) in [
        (
            TLS.to_owned(),
            vec!["--tlsv1.2 --tls-max 1.2", "--tlsv1.3", "--http2"],
            vec!["--tls-max 1.1 --tlsv1.1 --ciphers DEFAULT@SECLEVEL=0"],
        ),
        (tls("min_version: TLS13"), vec!["--tlsv1.3"], vec!["--tls-max 1.2"]),
        (tls("max_version: TLS12"), vec!["--tls-max 1.2"], vec!["--tlsv1.3"]),
        (
            tls("max_version: TLS12, cipher_suites: [TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305]"),
            vec!["--ciphers ECDHE-ECDSA-CHACHA20-POLY1305"],
            vec!["--ciphers ECDHE-ECDSA-AES128-GCM-SHA256"],
        ),
        (tls("curve_preferences: [CurveP384]"), vec!["--tlsv1.3 --curves P-384"], vec!["--tlsv1.3 --curves X25519"]),
        (
            tls("cipher_suites: [TLS_AES_256_GCM_SHA384]"),
            vec!["--tls13-ciphers TLS_AES_256_GCM_SHA384"],
            vec!["--tls13-ciphers TLS_AES_128_GCM_SHA256 --tlsv1.3"],
        ),
    ] {
        let exporter = start(&db, &files.write("web.yml", &config)).await;
        for (status, list) in [(200, good), (0, bad)] {
            for arguments in list {
                let answer = files.curl(&exporter, "https", "/-/healthy", &format!("--cacert ca.crt {arguments}"));
                assert_eq!(answer.status, status, "{config} {arguments}: {answer:?}");
            }
        }
        assert_ne!(files.curl(&exporter, "http", "/-/healthy", "").status, 200, "not without TLS");
    }
}

#[tokio::test]
async fn everything_but_probes_needs_the_password() {
    let (db, files) = (Database::new().await, Files::new());
    let config = files.write("web.yml", &(TLS.to_owned() + &users(&[("prom", "s3cret"), ("ops", "other")])));
    let exporter = start(&db, &config).await;
    for path in ["/metrics", "/", "/nothing", "/-/healthy/x"] {
        for (user, status) in [("", 401), ("-u prom:wrong", 401), ("-u nobody:s3cret", 401), ("-u prom:other", 401)] {
            let answer = files.curl(&exporter, "https", path, &format!("--cacert ca.crt --include {user}"));
            assert_eq!(answer.status, status, "{path} {user}: {answer:?}");
            assert!(answer.text.contains("www-authenticate: Basic realm="), "{answer:?}");
            assert!(!answer.text.contains("rsolv_exporter_up"), "{answer:?}");
        }
        for user in ["prom:s3cret", "ops:other"] {
            let answer = files.curl(&exporter, "https", path, &format!("--cacert ca.crt -u {user}"));
            assert_eq!(
                answer.status,
                if path.len() > 8 || path == "/nothing" { 404 } else { 200 },
                "{path}: {answer:?}"
            );
        }
    }
    for path in ["/-/healthy", "/-/ready"] {
        files.curl_until(&exporter, path, "--cacert ca.crt", |answer| answer.status == 200);
    }
    let log = exporter.log();
    assert!(!["s3cret", "$2b$", "nobody", "cHJvb"].iter().any(|secret| log.contains(secret)), "{log}");
    // The healthcheck needs neither the password nor the certificate's authority.
    let flags = ["healthcheck", "--web.listen-address", &exporter.address];
    for config in [vec![], vec!["--web.config.file", config.as_str()]] {
        let output = exporter::run(&[&flags[..], &config].concat()).await;
        assert_eq!(output.status.success(), !config.is_empty(), "{output:?}");
    }
}

#[tokio::test]
async fn changes_are_taken_and_bad_ones_are_not() {
    let (db, files) = (Database::new().await, Files::new());
    let config = files.write("web.yml", TLS);
    let exporter = start(&db, &config).await;
    let good = |answer: &Answer| {
        let metrics = Metrics::parse(&answer.text);
        metrics.value("rsolv_exporter_web_config_last_reload_successful", &[])
    };
    let first = files.curl(&exporter, "https", "/metrics", "--cacert ca.crt");
    assert_eq!(good(&first), Some(1.0), "{first:?}");

    // A connection made before the change works, and ends after the next response.
    files.certificate("server", "other", "localhost");
    files.curl_until(&exporter, "/-/healthy", "--cacert other.crt", |answer| answer.status == 200);
    assert_eq!(files.curl(&exporter, "https", "/-/healthy", "--cacert ca.crt").status, 0);

    // A broken file, and a key that is not the certificate's. (The new pair may have been looked at when half was there.)
    let complaints = || exporter.log().lines().filter(|line| line.contains("the old one stays")).count();
    let before = complaints();
    let broken = |answer: &Answer| answer.status == 200 && good(answer) == Some(0.0);
    files.write("web.yml", "tls_server_config: {cert_file: server.crt, key_file: server.key\n");
    files.curl_until(&exporter, "/metrics", "--cacert other.crt", broken);
    files.write("web.yml", TLS);
    files.curl_until(&exporter, "/metrics", "--cacert other.crt", |answer| good(answer) == Some(1.0));
    let key = fs::read(files.path("server.key")).expect("the key");
    files.write("server.key", fs::read(files.path("ca.key")).expect("another key"));
    files.curl_until(&exporter, "/metrics", "--cacert other.crt", broken);
    // It is said once, not at every look: the next thing that is said is about the next change.
    files.write("server.key", key);
    files.curl_until(&exporter, "/metrics", "--cacert other.crt", |answer| good(answer) == Some(1.0));
    assert_eq!(complaints() - before, 2, "{}", exporter.log());
    assert!(exporter.log().contains("is not the key of the certificate"), "{}", exporter.log());

    // Users come, change and go.
    files.write("web.yml", &(TLS.to_owned() + &users(&[("prom", "one")])));
    files.curl_until(&exporter, "/", "--cacert other.crt", |answer| answer.status == 401);
    assert_eq!(files.curl(&exporter, "https", "/", "--cacert other.crt -u prom:one").status, 200);
    files.write("web.yml", &(TLS.to_owned() + &users(&[("prom", "two")])));
    files.curl_until(&exporter, "/", "--cacert other.crt -u prom:one", |answer| answer.status == 401);
    assert_eq!(files.curl(&exporter, "https", "/", "--cacert other.crt -u prom:two").status, 200);
}

#[tokio::test]
async fn a_bad_web_configuration_ends_the_start() {
    let files = Files::new();
    for (text, expected) in [
        ("colour: red\nbasic_auth_users: {a: hunter2}\n", "web.yml: basic_auth_users.a: is no bcrypt hash"),
        (
            "tls_server_config: {cert_file: gone.crt, key_file: server.key}\n",
            "tls_server_config.cert_file: cannot read ",
        ),
        ("tls_server_config: {cert_file: server.crt, key_file: ca.key}\n", "ca.key: is not the key of the certificate"),
        (
            "tls_server_config: {cert_file: server.crt, key_file: server.crt}\n",
            "server.crt: holds no private key in PEM",
        ),
        (
            "tls_server_config: {cert_file: server.key, key_file: server.key}\n",
            "server.key: holds no certificate in PEM",
        ),
        (
            "tls_server_config: {cert_file: server.crt, key_file: server.key, cipher_suites: [RC4]}\n",
            "\"RC4\" is not supported",
        ),
    ] {
        let config = files.write("web.yml", text);
        for command in ["serve", "check"] {
            let output =
                exporter::run(&[command, "--database.url=postgres://u@127.0.0.1:1/d", "--web.config.file", &config])
                    .await;
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains(expected) && !said.contains("hunter2"), "{said}");
        }
    }
    let gone = exporter::run(&["--database.url=postgres://u@127.0.0.1:1/d", "--web.config.file=/nowhere.yml"]).await;
    assert!(String::from_utf8_lossy(&gone.stderr).contains("/nowhere.yml: cannot be read: "), "{gone:?}");
}

#[tokio::test]
async fn headers_and_the_rate_limit() {
    let (db, files) = (Database::new().await, Files::new());
    let text = "http_server_config: {headers: {X-Frame-Options: sameorigin, Strict-Transport-Security: max-age=60}}\n\
                rate_limit: {interval: 1h, burst: 2}\n";
    let exporter = start(&db, &files.write("web.yml", text)).await;
    let statuses = [exporter.get("/metrics").await, exporter.get("/").await, exporter.get("/metrics").await];
    assert_eq!(statuses.each_ref().map(|response| response.status), [200, 200, 429]);
    for response in &statuses {
        assert_eq!(response.header("x-frame-options"), "sameorigin");
        assert_eq!(response.header("strict-transport-security"), "max-age=60");
        assert_eq!(response.header("x-content-type-options"), "nosniff");
    }
    assert_eq!(exporter.get("/-/healthy").await.status, 200, "no limit for probes");
}

/// Neither clients that send slowly nor those that take nothing nor those that shake no hands delay others.
#[tokio::test]
async fn stuck_clients_delay_nobody_and_are_cut() {
    let (db, files) = (Database::new().await, Files::new());
    for config in ["", TLS] {
        let exporter = start(&db, &files.write("web.yml", config)).await;
        let mut slow = Vec::new();
        for _ in 0..100 {
            let mut stream = TcpStream::connect(&exporter.address).await.expect("a connection");
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.expect("a part of a request");
            slow.push(stream);
        }
        let scheme = if config.is_empty() { "http" } else { "https" };
        assert_eq!(files.curl(&exporter, scheme, "/metrics", "--cacert ca.crt").status, 200);
        // It was answered before those who came earlier were cut.
        let is_waiting = |stream: &TcpStream| {
            let read = stream.try_read(&mut [0; 1]);
            matches!(&read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        };
        assert!(slow.iter().any(is_waiting));
        // Dripping does not help them.
        let deadline = Instant::now() + PATIENCE;
        for mut stream in slow {
            let mut buffer = [0; 1024];
            while Instant::now() < deadline {
                if stream.write_all(b"x").await.is_err() {
                    break;
                }
                let read = tokio::time::timeout(TICK * 10, stream.read(&mut buffer)).await;
                if matches!(read, Ok(Ok(0) | Err(_))) {
                    break;
                }
            }
        }
        assert!(Instant::now() < deadline, "still connected after {PATIENCE:?}");
    }
}

#[tokio::test]
async fn large_heads_are_refused() {
    let db = Database::new().await;
    let exporter = Exporter::start(&db.url(), &[]).await;
    let large = "x".repeat(64 * 1024);
    let mut stream = TcpStream::connect(&exporter.address).await.expect("a connection");
    // The server may close before it has read all.
    let _ = stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX-Large: {large}\r\n\r\n").as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(exporter.get("/-/healthy").await.status, 200);
}
