//! TLS and passwords to PostgreSQL: the same verdicts as libpq's.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rsolv_exporter::config::{Layers, Settings};
use rsolv_exporter::db::{Failure, Reason};

use crate::outages::{failures, up};
use crate::support::certificates::Certificate;
use crate::support::cluster::Cluster;
use crate::support::database::{Database, connect};
use crate::support::exporter::{self, Exporter};
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
        let row = session.one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await?;
        Ok(row.get(0))
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

/// By the command in PostgreSQL's documentation, 19.9.5: a certificate that is its own authority.
#[tokio::test]
async fn the_certificate_of_the_documentation() {
    let fixture = Fixture::new().await;
    let make = |name: &str| {
        let subject = format!("/CN={name}");
        fixture
            .openssl("req -new -x509 -days 365 -nodes -text -out server.crt -keyout server.key", &["-subj", &subject]);
        fixture.serve_files();
    };
    make("dbhost.yourdomain.com");
    fixture
        .compare(&[
            ("scram", "host=dbhost.yourdomain.com&sslmode=verify-ca&sslrootcert=DIR/server.crt", "TLS"),
            ("scram", "host=other.example&sslmode=verify-ca&sslrootcert=DIR/server.crt", "TLS"),
            ("scram", "host=dbhost.yourdomain.com&sslmode=verify-full&sslrootcert=DIR/server.crt", "TLS"),
            ("scram", "host=other.example&sslmode=verify-full&sslrootcert=DIR/server.crt", "tls"),
            ("scram", "host=127.0.0.1&sslmode=verify-full&sslrootcert=DIR/server.crt", "tls"),
            ("scram", "host=dbhost.yourdomain.com&sslmode=verify-full&sslrootcert=DIR/root.crt", "tls"),
            ("scram", "host=dbhost.yourdomain.com&channel_binding=require&sslmode=require", "TLS"),
        ])
        .await;
    make("127.0.0.1");
    fixture
        .compare(&[
            ("scram", "host=127.0.0.1&sslmode=verify-full&sslrootcert=DIR/server.crt", "TLS"),
            ("scram", "host=127.0.0.2&sslmode=verify-full&sslrootcert=DIR/server.crt", "tls"),
        ])
        .await;
    let other = fixture.authority.issue("127.0.0.1", &["127.0.0.2"]);
    fixture.serve(Some((&other.certificate(), &other.key())));
    fixture
        .compare(&[
            ("scram", "host=127.0.0.1&sslmode=verify-full&sslrootcert=DIR/root.crt", "tls"),
            ("scram", "host=127.0.0.2&sslmode=verify-full&sslrootcert=DIR/root.crt", "TLS"),
            ("scram", "host=127.0.0.2&sslmode=verify-full&sslrootcert=DIR/wrong.crt", "tls"),
        ])
        .await;
    make("*.yourdomain.com");
    fixture
        .compare(&[
            ("scram", "host=dbhost.yourdomain.com&sslmode=verify-full&sslrootcert=DIR/server.crt", "TLS"),
            ("scram", "host=a.dbhost.yourdomain.com&sslmode=verify-full&sslrootcert=DIR/server.crt", "tls"),
        ])
        .await;
}

/// Of RSA-PSS the digest is among the parameters, and Ed25519 has none. Where channel binding is not a must, that is no
/// reason for us to stay away; for libpq it is.
#[tokio::test]
async fn certificates_that_channel_binding_finds_hard() {
    let fixture = Fixture::new().await;
    for (key, preferred, required) in
        [("ed25519", "ours:TLS", "auth"), ("rsa-pss -pkeyopt rsa_keygen_bits:2048", "TLS", "TLS")]
    {
        let make = "req -x509 -days 9 -nodes -out server.crt -keyout server.key -subj /CN=db.example -newkey ";
        fixture.openssl(&format!("{make}{key}"), &[]);
        fixture.serve_files();
        fixture
            .compare(&[
                ("scram", "host=db.example&sslmode=require&channel_binding=disable", "TLS"),
                ("scram", "host=db.example&sslmode=require&channel_binding=prefer", preferred),
                ("scram", "host=db.example&sslmode=require&channel_binding=require", required),
                ("hashed", "host=db.example&sslmode=verify-ca&sslrootcert=DIR/server.crt", "TLS"),
            ])
            .await;
    }
}

/// Certificates that were revoked, keys with passwords, and versions of TLS.
#[tokio::test]
async fn what_else_libpq_knows_about_certificates() {
    let fixture = Fixture::new().await;
    let certificate = fixture.authority.issue("db.example", &["db.example"]);
    fixture.serve(Some((&certificate.certificate(), &certificate.key())));
    let directory = fixture.directory.path();
    let (_, authority) = certificate.write(directory, "revoked");
    assert!(authority.exists());
    // An authority's list of what it has revoked, empty and with the server's certificate on it.
    std::fs::write(directory.join("index"), "").unwrap();
    std::fs::write(directory.join("ca.conf"), "[ca]\ndefault_ca=a\n[a]\ndatabase=index\ndefault_md=sha256\n").unwrap();
    let list = "ca -config ca.conf -gencrl -crldays 9 -cert root.crt -keyfile root.key -out ";
    fixture.openssl(&format!("{list}nobody.crl"), &[]);
    fixture.openssl("ca -config ca.conf -cert root.crt -keyfile root.key -revoke revoked.crt", &[]);
    fixture.openssl(&format!("{list}server.crl"), &[]);
    std::fs::create_dir(directory.join("lists")).unwrap();
    std::fs::copy(directory.join("server.crl"), directory.join("lists/server.crl")).unwrap();
    fixture.openssl("rehash lists", &[]);
    fixture.openssl("ec -aes256 -in client.key -out locked.key -passout pass:key-s3cret", &[]);
    fixture.openssl("pkey -in client.key -outform DER -out client.der", &[]);
    for key in ["locked.key", "client.der"] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(directory.join(key), PermissionsExt::from_mode(0o600)).unwrap();
    }
    let server = "host=db.example&sslmode=verify-full&sslrootcert=DIR/root.crt";
    let client = "host=db.example&sslmode=require&sslcert=DIR/client.crt";
    let cases = [
        ("scram", format!("{server}&sslcrl=DIR/nobody.crl"), "TLS"),
        ("scram", format!("{server}&sslcrl=DIR/server.crl"), "tls"),
        ("scram", format!("{server}&sslcrldir=DIR/lists"), "tls"),
        // A list that is not there: libpq goes on without.
        ("scram", format!("{server}&sslcrl=DIR/nowhere.crl"), "ours:tls"),
        ("scram", format!("{server}&sslsni=0"), "TLS"),
        ("certified", format!("{client}&sslkey=DIR/locked.key&sslpassword=key-s3cret"), "TLS"),
        ("certified", format!("{client}&sslkey=DIR/locked.key&sslpassword=wrong"), "tls"),
        ("certified", format!("{client}&sslkey=DIR/locked.key"), "tls"),
        ("certified", format!("{client}&sslkey=DIR/client.der"), "TLS"),
        ("scram", "host=db.example&sslmode=require&ssl_max_protocol_version=TLSv1.2".to_owned(), "TLS"),
        ("scram", "host=db.example&sslmode=require&ssl_min_protocol_version=tlsv1.3".to_owned(), "TLS"),
        (
            "scram",
            "host=db.example&sslmode=require&ssl_min_protocol_version=TLSv1.1&ssl_max_protocol_version=TLSv1.1"
                .to_owned(),
            "tls",
        ),
    ];
    let cases: Vec<_> =
        cases.iter().map(|(user, parameters, expected)| (*user, parameters.as_str(), *expected)).collect();
    fixture.compare(&cases).await;
    // Of PostgreSQL 17 and later, which the installed libpq need not be.
    let direct = "host=db.example&sslmode=require&sslnegotiation=direct";
    let expected = if fixture.cluster.major() < 17 { "ours:tls|connect" } else { "ours:TLS" };
    fixture.compare(&[("scram", direct, expected)]).await;
}

/// With verify-full and no root certificate of its own, as with `sslrootcert=system`.
#[tokio::test]
async fn the_systems_authorities_are_trusted() {
    let fixture = Fixture::new().await;
    let certificate = fixture.authority.issue("db.example", &["db.example"]);
    fixture.serve(Some((&certificate.certificate(), &certificate.key())));
    for root in ["", "&sslrootcert=system"] {
        let url = fixture.url("scram", &format!("host=db.example&sslmode=verify-full{root}"));
        // There is no table to read, but there is a connection.
        for (file, reason) in [("root.crt", "missing"), ("wrong.crt", "tls")] {
            let authorities = fixture.directory.path().join(file);
            // Where OpenSSL looks for those of the system; containers set it.
            let environment = [("SSL_CERT_FILE", authorities.to_str().unwrap()), ("SSL_CERT_DIR", "/nowhere")];
            let arguments = ["--database.url", &url, "--poll.interval", "500ms", "--web.listen-address", "127.0.0.1:0"];
            let exporter = Exporter::launch(&arguments, &environment).await.unwrap();
            exporter.wait_for(&format!("{file}: reason {reason}"), |m| failures(m, reason) > 0.0).await;
        }
    }
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
        let failed = |m: &_| !up(m) && failures(m, reason) > 1.0;
        let page = exporter.wait_for(&what, failed).await.text;
        let log = exporter.log();
        assert_eq!(log.matches(said).count(), 1, "{log}");
        let status = exporter.get("/").await.text();
        assert!(!format!("{page}{log}{status}").contains("s3cret"), "{log}");
    }
}

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

/// What the URL leaves open, libpq finds in the environment, in `~/.pgpass` and in a service file.
#[tokio::test]
async fn the_same_verdicts_as_libpq_about_variables_and_files() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new().await;
    let certificate = fixture.authority.issue("db.example", &["db.example"]);
    fixture.serve(Some((&certificate.certificate(), &certificate.key())));
    let (home, port) = (fixture.directory.path(), fixture.cluster.port().to_string());
    let write = |name: &str, mode: u32, text: String| {
        std::fs::write(home.join(name), text).unwrap();
        std::fs::set_permissions(home.join(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    let file = |name: &str| home.join(name).display().to_string();
    let place = [("PGHOSTADDR", "127.0.0.1".to_owned()), ("PGHOST", "db.example".to_owned()), ("PGPORT", port.clone())];
    let login = [("PGUSER", "scram".to_owned()), ("PGDATABASE", "postgres".to_owned())];
    let password = [("PGPASSWORD", PASSWORD.to_owned())];
    let all = [&place[..], &login, &password].concat();
    let full = |root: &str| vec![("PGSSLMODE", "verify-full".to_owned()), ("PGSSLROOTCERT", file(root))];
    let with = |more: Vec<(&'static str, String)>| [&all[..], &more].concat();
    for (url, environment, expected) in [
        ("postgres://", all.clone(), "TLS"),
        ("postgres://", with(full("root.crt")), "TLS"),
        // The certificate is refused that was accepted when nobody asked for more.
        ("postgres://", with(full("wrong.crt")), "tls"),
        ("postgres://?sslmode=disable", with(full("wrong.crt")), "plain"),
        ("postgres://", with(vec![("PGSSLMODE", "disable".to_owned())]), "plain"),
        ("postgres://", with(vec![("PGSSLMODE", String::new())]), "tls"),
        ("postgres://", with(vec![("PGSSLCRL", String::new()), ("PGREQUIREPEER", String::new())]), "TLS"),
        ("postgres://scram:wrong@", all.clone(), "auth"),
        ("postgres://", [&place[..], &login].concat(), "auth"),
        ("host=db.example user=scram", with(vec![("PGUSER", "nobody".to_owned())]), "TLS"),
        ("postgres://", with(vec![("PGTARGETSESSIONATTRS", "standby".to_owned())]), "connect"),
        ("postgres://", with(vec![("PGCHANNELBINDING", "require".to_owned())]), "TLS"),
        ("postgres://", with(vec![("PGCONNECT_TIMEOUT", "soon".to_owned())]), "tls"),
        ("postgres://", with(vec![("PGOPTIONS", "-c nonsense=1".to_owned())]), "missing"),
    ] {
        fixture.compare_url(url, &environment, expected).await;
    }
    let without = [&place[..], &login].concat();
    write(".pgpass", 0o600, format!("*:1:*:*:wrong\ndb.example:{port}:postgres:scram:{PASSWORD}\n"));
    fixture.compare_url("postgres://", &without, "TLS").await;
    write(".pgpass", 0o644, format!("*:*:*:*:{PASSWORD}\n"));
    fixture.compare_url("postgres://", &without, "auth").await;
    write("passwords", 0o600, format!("*:*:*:*:{PASSWORD}\n"));
    fixture.compare_url("postgres://", &[&without[..], &[("PGPASSFILE", file("passwords"))]].concat(), "TLS").await;
    fixture.compare_url(&format!("postgres://?passfile={}", file("passwords")), &without, "TLS").await;

    let service = "[rsolv]\nhostaddr=127.0.0.1\nhost=db.example\nuser=scram\ndbname=postgres\nsslmode=verify-full\n";
    write("services", 0o644, format!("{service}port={port}\nsslrootcert={}\npassword={PASSWORD}\n", file("root.crt")));
    let named = [("PGSERVICEFILE", file("services")), ("PGSERVICE", "rsolv".to_owned())];
    fixture.compare_url("postgres://", &named, "TLS").await;
    fixture.compare_url("service=rsolv sslmode=disable", &named[..1], "plain").await;
    fixture.compare_url("postgres://?service=other", &named, "tls").await;
    write(".pg_service.conf", 0o644, std::fs::read_to_string(file("services")).unwrap());
    fixture.compare_url("postgres://?service=rsolv", &[], "TLS").await;
    // The certificates that libpq looks for by itself.
    std::fs::create_dir(home.join(".postgresql")).unwrap();
    std::fs::copy(home.join("wrong.crt"), home.join(".postgresql/root.crt")).unwrap();
    fixture.compare_url("postgres://?sslmode=require", &all, "tls").await;
    std::fs::copy(home.join("root.crt"), home.join(".postgresql/root.crt")).unwrap();
    fixture.compare_url("postgres://?sslmode=verify-full&sslrootcert=", &all, "TLS").await;
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
    let connected = |m: &Metrics| failures(m, "missing") > 0.0;
    exporter.wait_for("a connection", connected).await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rsolv-exporter'";
    let change = format!("SET password_encryption = 'scram-sha-256'; ALTER ROLE {role} PASSWORD 'new-s3cret'; {end}");
    admin.batch_execute(&change).await.unwrap();
    let metrics = exporter.wait_for("a refusal", |m| failures(m, "auth") > 0.0).await;
    let before = failures(&metrics, "missing");
    write("new-s3cret");
    let started = Instant::now();
    exporter.wait_for("a connection", |m| failures(m, "missing") > before).await;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert!(!exporter.log().contains("s3cret"), "{}", exporter.log());
}

/// Reading the system's certificates takes longer than a start with a poll, so nobody does who does not need them.
#[tokio::test]
async fn a_connection_without_tls_reads_no_certificates() {
    let (database, directory) = (Database::new().await, tempfile::tempdir().unwrap());
    let pipe = directory.path().join("certificates");
    let name = std::ffi::CString::new(pipe.to_str().unwrap()).unwrap();
    // SAFETY: the name is a C string that lives through the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    // Nobody writes to the pipe: who opens it to read waits for ever.
    let flags = ["--database.url", &database.url(), "--web.listen-address", "127.0.0.1:0"];
    let exporter = Exporter::launch(&flags, &[("SSL_CERT_FILE", pipe.to_str().unwrap())]).await.unwrap();
    exporter.wait_for("a first poll", up).await;
}
