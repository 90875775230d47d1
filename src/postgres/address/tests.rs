use std::collections::BTreeMap;

use super::*;

fn try_parse(text: &str, variables: &[(&str, &str)]) -> Result<Address, String> {
    let variables: BTreeMap<_, _> = variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    // Nobody's home: the files of whoever runs the tests must not count.
    let home = BTreeMap::from([("HOME".to_owned(), "/nowhere".to_owned())]);
    Address::parse(text, &Environment::new(&home.into_iter().chain(variables).collect())).map_err(|e| e.to_string())
}

fn parse(text: &str) -> Address {
    try_parse(text, &[]).unwrap()
}

fn refusal(text: &str) -> String {
    try_parse(text, &[]).err().unwrap_or_else(|| panic!("{text} is accepted"))
}

fn shown(address: &Address) -> String {
    address.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[test]
fn urls_as_the_platform_writes_them() {
    let address = parse("ecto://app:p%40ss@db.example:5433/rsolv?ssl=true&pool_size=10");
    assert_eq!(address.login.get_password(), Some(&b"p@ss"[..]));
    assert_eq!((shown(&address).as_str(), address.tls.mode), ("db.example:5433", Mode::Require));
    assert_eq!(address.notes, ["without effect on the exporter: pool_size"]);
}

#[test]
fn sslmode_says_more_than_ssl() {
    let mode = |parameters: &str| parse(&format!("ecto://u@h/d?{parameters}")).tls.mode;
    assert_eq!((mode(""), mode("ssl=false"), mode("ssl=true")), (Mode::Prefer, Mode::Prefer, Mode::Require));
    assert_eq!((mode("requiressl=0"), mode("requiressl=1")), (Mode::Prefer, Mode::Require));
    assert_eq!(mode("sslmode=verify-full&ssl=true"), Mode::VerifyFull);
    assert_eq!(mode("sslmode=verify-full&requiressl=1"), Mode::VerifyFull);
    assert_eq!(mode("ssl=true&sslmode=disable"), Mode::Disable);
}

#[test]
fn the_systems_authorities_are_trusted_with_a_name_only() {
    assert_eq!(parse("postgres://u@h/d?sslrootcert=system").tls.mode, Mode::VerifyFull);
    assert_eq!(parse("postgres://u@h/d?sslrootcert=system&sslmode=verify-full").tls.mode, Mode::VerifyFull);
    assert_eq!(
        refusal("postgres://u@h/d?sslmode=verify-ca&sslrootcert=system"),
        "sslrootcert system needs sslmode=verify-full"
    );
    assert!(try_parse("postgres://u@h/d?sslrootcert=system", &[("PGSSLMODE", "require")]).is_err());
}

#[test]
fn libpqs_parameters_are_used() {
    let address = parse(
        "postgresql://u@a:1,b:2/d?sslmode=verify-full&sslrootcert=%2Fr%20oot.crt&sslcert=c&sslkey=k&sslpassword=s3cret\
         &sslcrl=l&sslcrldir=m&sslsni=0&ssl_min_protocol_version=tlsv1.3&target_session_attrs=read-write\
         &options=-c%20geqo%3Doff&application_name=me&load_balance_hosts=random&connect_timeout=7&tcp_user_timeout=1500\
         &keepalives_idle=1&keepalives_interval=2&keepalives_count=3&sslnegotiation=direct&channel_binding=require",
    );
    assert!(!format!("{:?}", address.tls).contains("s3cret"));
    let Tls { mode, root, revoked, cert, key, password, direct, sni, versions } = address.tls;
    assert_eq!(
        (mode, root, cert, key),
        (Mode::VerifyFull, Some("/r oot.crt".into()), Some("c".into()), Some("k".into()))
    );
    assert_eq!((revoked, password.0.as_str(), sni), ([Some("l".into()), Some("m".into())], "s3cret", false));
    assert!(direct);
    assert_eq!(versions, [Some(SslVersion::TLS1_3), None]);
    assert_eq!((address.server, address.shuffled), (Server::Primary, true));
    assert_eq!(
        address.connect_timeout.zip(address.user_timeout),
        Some((Duration::from_secs(7), Duration::from_millis(1500)))
    );
    let login = &address.login;
    assert_eq!((login.get_options(), login.get_application_name()), (Some("-c geqo=off"), Some("me")));
    assert_eq!(
        (login.get_ssl_negotiation(), login.get_channel_binding()),
        (SslNegotiation::Direct, ChannelBinding::Require)
    );
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(1)).with_interval(Duration::from_secs(2));
    assert_eq!(format!("{:?}", address.keepalive), format!("{:?}", Some(keepalive.with_retries(3))));
    assert!(parse("postgres://u@h/d?keepalives=0").keepalive.is_none());
}

#[test]
fn an_empty_value_is_what_libpq_makes_of_it() {
    let address =
        parse("postgres://u@h/d?sslrootcert=&port=&user=v&dbname=&password=&sslcrl=&require_auth=&replication=");
    assert_eq!((address.tls.root.clone(), shown(&address).as_str()), (None, "h:5432"));
    assert_eq!((address.user(), address.login.get_dbname(), address.login.get_password()), ("v", Some("v"), None));
    for parameter in ["sslmode", "target_session_attrs", "keepalives", "connect_timeout", "channel_binding"] {
        assert!(refusal(&format!("postgres://u@h/d?{parameter}=")).starts_with(&format!("{parameter} must be ")));
    }
}

#[test]
fn lists_of_hosts() {
    for (text, hosts) in [
        ("postgres://u@a:1,b:2/d", "a:1,b:2"),
        ("postgres://u@a,b:2/d", "a:5432,b:2"),
        ("postgres://u@a,b/d?port=7", "a:7,b:7"),
        ("host=a,b port=7 user=u", "a:7,b:7"),
        ("postgres://u@[::1]:1,[fe80::2]/d", "[::1]:1,[fe80::2]:5432"),
        ("hostaddr=::1 user=u", "[::1]:5432"),
        ("host=a hostaddr=10.0.0.1 user=u", "a:5432"),
        ("host=/run/a,/run/b user=u", "/run/a:5432,/run/b:5432"),
    ] {
        assert_eq!(shown(&parse(text)), hosts, "{text}");
    }
    for (text, error) in [
        ("host=a,b,c port=1,2 user=u", "has 2 ports and 3 hosts: write one port, or one for each host"),
        ("host=a,b hostaddr=::1 user=u", "has 2 hosts and 1 hostaddrs: write as many of each"),
        ("host=a port=0 user=u", "port must be a number from 1 to 65535"),
        ("hostaddr=a user=u", "hostaddr must be an IP address"),
        ("hostaddr=::1 user=u sslmode=verify-full", "sslmode verify-full needs a host name beside each hostaddr"),
    ] {
        assert_eq!(refusal(text), error, "{text}");
    }
    let here = parse("postgres:///d?user=u");
    assert!(matches!(here.hosts[..], [Host { place: Location::Socket(_), port: 5432, .. }]));
}

#[test]
fn what_is_not_supported_is_refused_by_name_with_the_remedy() {
    for (parameter, value, remedy) in [
        ("gssencmode", "require", "encrypt by TLS"),
        ("replication", "database", "leave it out"),
        ("requirepeer", "postgres", "a directory that only this user can write to"),
        ("require_auth", "scram-sha-256", "channel_binding=require"),
        ("min_protocol_version", "3.2", "version 3.0"),
        ("sslcertmode", "require", "pg_hba.conf"),
        ("oauth_issuer", "x", "a password or a certificate"),
        ("sslaccept", "strict", "sslmode=verify-full"),
    ] {
        let error = refusal(&format!("postgres://u@h/d?{parameter}={value}"));
        assert!(error.starts_with(parameter) && error.contains(remedy), "{error}");
    }
    let taken =
        "gssencmode=disable&min_protocol_version=3.0&max_protocol_version=latest&sslcertmode=allow&replication=false";
    assert!(parse(&format!("postgres://u@h/d?{taken}")).notes.is_empty());
    assert!(refusal("postgres://u@h/d?sslnegotiation=direct").contains("needs sslmode=require"));
}

#[test]
fn every_value_of_target_session_attrs() {
    let server = |value: &str| parse(&format!("postgres://u@h/d?target_session_attrs={value}")).server;
    let all = ["any", "primary", "read-write", "standby", "read-only", "prefer-standby"].map(server);
    use Server::{Any, PreferStandby, Primary, Standby};
    assert_eq!(all, [Any, Primary, Primary, Standby, Standby, PreferStandby]);
}

#[test]
fn the_environment_fills_what_the_url_leaves_open() {
    let variables = [
        ("PGHOST", "from-environment"),
        ("PGPORT", "77"),
        ("PGUSER", "me"),
        ("PGDATABASE", "mine"),
        ("PGPASSWORD", "s3cret"),
        ("PGSSLMODE", "verify-full"),
        ("PGSSLROOTCERT", "/root.crt"),
        ("PGTZ", "UTC"),
    ];
    let all = try_parse("postgres://", &variables).unwrap();
    assert_eq!((shown(&all).as_str(), all.user(), all.login.get_dbname()), ("from-environment:77", "me", Some("mine")));
    assert_eq!((all.login.get_password(), all.tls.mode), (Some(&b"s3cret"[..]), Mode::VerifyFull));
    assert_eq!(
        all.notes,
        [
            "taken from the environment: PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD, PGSSLMODE, PGSSLROOTCERT",
            "without effect on the exporter: PGTZ",
        ]
    );
    let some = try_parse("postgres://u@h/d?sslmode=disable", &variables).unwrap();
    assert_eq!((shown(&some).as_str(), some.user(), some.tls.mode), ("h:77", "u", Mode::Disable));
    assert!(some.notes[1].ends_with("says otherwise: PGHOST, PGDATABASE, PGUSER, PGSSLMODE"), "{:?}", some.notes);
    let wrong = try_parse("postgres://u@h/d", &[("PGSSLMODE", "s3cret")]).err().unwrap();
    assert!(wrong.starts_with("PGSSLMODE: sslmode must be") && !wrong.contains("s3cret"), "{wrong}");
    assert_eq!(try_parse("postgres://u@h/d", &[("PGREQUIRESSL", "1")]).unwrap().tls.mode, Mode::Require);
}

#[test]
fn services_and_password_files_are_read() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let write = |name: &str, mode: u32, text: &str| {
        std::fs::write(home.path().join(name), text).unwrap();
        std::fs::set_permissions(home.path().join(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    write(".pg_service.conf", 0o644, "[a]\nhost=x,y\nport=7\ndbname=d\n");
    write(".pgpass", 0o600, "y:7:d:u:s3cret\n");
    let variables = [("HOME", home.path().to_str().unwrap()), ("PGSERVICE", "a"), ("PGPORT", "9")];
    let address = try_parse("postgres://u@", &variables).unwrap();
    assert_eq!((shown(&address).as_str(), address.login.get_dbname()), ("x:7,y:7", Some("d")));
    let passwords: Vec<_> = address.hosts.iter().map(|host| host.password.as_deref()).collect();
    assert_eq!(passwords, [None, Some("s3cret")]);

    let missing = try_parse("postgres://u@?service=b", &variables).err().unwrap();
    assert!(
        missing.starts_with("service \"b\" is not defined: not in ") && missing.contains(".pg_service.conf"),
        "{missing}"
    );
    let nowhere = try_parse("postgres://u@?service=a&servicefile=/nowhere", &variables).err().unwrap();
    assert!(nowhere.starts_with("cannot read the service file /nowhere: "), "{nowhere}");
    write(".pgpass", 0o640, "y:7:d:u:s3cret\n");
    let open = try_parse("postgres://u@", &variables).unwrap();
    assert!(open.hosts.iter().all(|host| host.password.is_none()));
    assert!(open.notes.iter().any(|note| note.contains("chmod 0600")), "{:?}", open.notes);
}

#[test]
fn no_error_quotes_a_value() {
    for text in [
        "postgres://app:s3cret@db:notaport/x",
        "s3cret",
        "postgres://u:s3cret@h/db?s3cret=1",
        "postgres://u:x@h/db?s3cret",
        "mysql://s3cret",
        "host=h password='s3cret",
        "host=h s3cret=1 user=u",
        "postgres://u@h/d?sslmode=s3cret",
        "postgres://u@h/d?target_session_attrs=s3cret",
        "postgres://u@h/d?sslrootcert=s3cret%zz",
        "postgres://u:Hunter@s3cret@127.0.0.1:1/db",
        "postgres://u:Hunter@s3cret/s3cret@127.0.0.1:1/db",
        "ecto://u:Hunter@s3cret@s3cret@h/db?pool_size=1",
        "postgres://u:s3cret/s3cret@h/db",
    ] {
        let error = refusal(text);
        assert!(!error.contains("s3cret"), "{text}: {error}");
    }
}
