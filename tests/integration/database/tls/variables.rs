//! The environment, password files and service files.

use super::{Fixture, PASSWORD};

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
