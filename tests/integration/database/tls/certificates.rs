//! Certificates of servers and clients.

use super::Fixture;
use crate::support::database::Database;
use crate::support::exporter::Exporter;
use crate::support::metrics::Metrics;

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
            exporter.wait_for(&format!("{file}: reason {reason}"), |m| m.failures(reason) > 0.0).await;
        }
    }
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
    exporter.wait_for("a first poll", Metrics::is_up).await;
}
