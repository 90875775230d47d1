//! Clients that mean harm: they guess passwords, hang up, come in crowds, and never stop anybody else.

use std::time::{Duration, Instant};

use super::protection::{Files, start};
use crate::support::attack::{self, Attack, ask, basic, connect, more_files, request};
use crate::support::database::Database;
use crate::support::exporter::Exporter;
use crate::support::metrics::Metrics;
use crate::support::process::PATIENCE;

/// What nobody may be delayed by more than: a large multiple of the second that is promised, as tests share processors.
const BOUND: Duration = Duration::from_secs(20);

/// Asks on a connection of its own, which must work.
async fn ask_from(exporter: &Exporter, from: &str, request: &[u8]) -> (Duration, String) {
    attack::ask_from(&exporter.address, from, request).await.expect("a response")
}

/// Threads of the exporter.
fn threads(exporter: &Exporter) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", exporter.pid())).expect("its threads").count()
}

/// Users of whose passwords each takes a while to verify, of different costs.
fn users(pairs: &[(&str, u32)]) -> String {
    let line = |(user, cost): &(&str, u32)| format!("  {user}: {}\n", bcrypt::hash("s3cret", *cost).expect("a hash"));
    format!("basic_auth_users:\n{}", pairs.iter().map(line).collect::<String>())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_guesses_and_hangs_up_stops_nothing() {
    let (db, files) = (Database::new().await, Files::new());
    let config = files.write("web.yml", users(&[("prom", 12)]));
    let flags = ["--web.config.file", &config, "--poll.interval=200ms"];
    let mut exporter = Exporter::start(&db.url(), &flags).await;
    let right = request("/metrics", &basic("prom", "s3cret"));
    ask_from(&exporter, "127.0.0.2", &right).await;
    let attack = Attack::guess_and_hang_up(50, &exporter.address, "prom");
    let (mut polls, mut most_threads, mut slowest) = (Vec::new(), 0, Duration::ZERO);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        let (took, response) = ask_from(&exporter, "127.0.0.2", &right).await;
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        slowest = slowest.max(took);
        most_threads = most_threads.max(threads(&exporter));
        polls.extend(exporter_polls(&response));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("{} guesses, {most_threads} threads, slowest scrape {slowest:?}", attack.turns());
    assert!(attack.turns() > 500, "{} guesses", attack.turns());
    assert!(most_threads < 30, "{most_threads} threads");
    assert!(slowest < BOUND, "{slowest:?}");
    assert!(polls.last() > polls.first(), "no polls: {polls:?}");
    assert!(exporter.terminate().await.success(), "{}", exporter.log());
}

fn exporter_polls(response: &str) -> Option<u64> {
    let line = response.lines().find_map(|line| line.strip_prefix("rsolv_exporter_polls_total "))?;
    line.trim().parse().ok()
}

/// All from the same address as the right one, which is verified for the first time; also for the user whom they guess at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_that_guess_do_not_delay_who_knows() {
    let (db, files) = (Database::new().await, Files::new());
    let users: Vec<(String, u32)> = (0..5).map(|n| (format!("user{n}"), 10)).collect();
    let users: Vec<(&str, u32)> = users.iter().map(|(user, cost)| (user.as_str(), *cost)).collect();
    let exporter = start(&db, &files.write("web.yml", self::users(&users))).await;
    let attack = Attack::guess(100, &exporter.address, "user1");
    attack.reaches(100).await;
    for (user, _) in users {
        let before = attack.turns();
        let (took, response) = ask_from(&exporter, "127.0.0.1", &request("/metrics", &basic(user, "s3cret"))).await;
        let first = attack.turns() - before;
        println!("{user}: {took:?}, {first} guesses meanwhile");
        // In the order of their coming a hundred would be first.
        assert!(response.starts_with("HTTP/1.1 200") && first < 50, "{first} {response}");
    }
}

#[tokio::test]
async fn how_long_a_refusal_takes_tells_nothing() {
    let (db, files) = (Database::new().await, Files::new());
    let exporter = start(&db, &files.write("web.yml", users(&[("cheap", 4), ("dear", 11)]))).await;
    let mut times = [("cheap", vec![]), ("dear", vec![]), ("nobody", vec![])];
    for round in 0..7 {
        for (user, times) in &mut times {
            let guess = request("/metrics", &basic(user, &format!("{round}")));
            let (took, response) = ask_from(&exporter, "127.0.0.1", &guess).await;
            assert!(response.starts_with("HTTP/1.1 401"), "{response}");
            times.push(took);
        }
    }
    // The quickest of each, as others use the processors as well.
    let times = times.map(|(_, times)| times.into_iter().min().expect("several").as_secs_f64());
    let (least, most) =
        times.iter().fold((f64::MAX, 0.0_f64), |(least, most), time| (least.min(*time), most.max(*time)));
    // The hashes differ by a factor of 128.
    assert!(most < least * 3.0, "{times:?}");
}

/// Anyone may be refused as often as they like without spending what users may.
#[tokio::test]
async fn strangers_do_not_spend_the_rate_of_users() {
    let (db, files) = (Database::new().await, Files::new());
    let config = users(&[("prom", 4)]) + "rate_limit: {interval: 1h, burst: 2}\n";
    let exporter = start(&db, &files.write("web.yml", config)).await;
    for head in [String::new(), basic("prom", "wrong"), basic("nobody", "x")].iter().cycle().take(9) {
        let (_, response) = ask_from(&exporter, "127.0.0.1", &request("/metrics", head)).await;
        assert!(response.starts_with("HTTP/1.1 401"), "{response}");
    }
    for status in [200, 200, 429] {
        let (_, response) = ask_from(&exporter, "127.0.0.1", &request("/metrics", &basic("prom", "s3cret"))).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{response}");
    }
}

/// More half-sent heads than there are places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_denies_nobody_else_a_scrape() {
    more_files();
    let db = Database::new().await;
    let exporter = Exporter::start(&db.url(), &[]).await;
    let mut kept = connect(&exporter.address, "127.0.0.2").await.expect("a connection");
    let metrics = request("/metrics", "");
    ask(&mut kept, &metrics).await.expect("a scrape");
    let attack = Attack::half_a_head(3000, &exporter.address);
    attack.reaches(4000).await;
    let (began, mut slowest) = (Instant::now(), Duration::ZERO);
    while began.elapsed() < Duration::from_secs(5) {
        let (took, response) = ask(&mut kept, &metrics).await.expect("the connection is kept");
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        slowest = slowest.max(took);
        for path in ["/metrics", "/-/healthy"] {
            let (took, response) = ask_from(&exporter, "127.0.0.3", &request(path, "")).await;
            assert!(response.starts_with("HTTP/1.1 200"), "{response}");
            slowest = slowest.max(took);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("{} connections, slowest answer {slowest:?}", attack.turns());
    assert!(slowest < BOUND, "{slowest:?}");
}

/// A request without a host, or with one that can be read in two ways, is nobody's.
#[tokio::test]
async fn odd_hosts_are_refused() {
    let db = Database::new().await;
    let exporter = Exporter::start(&db.url(), &[]).await;
    for (head, status) in [
        ("", 400),
        ("Host:\r\n", 400),
        ("Host: a\r\nHost: b\r\n", 400),
        ("Host: localhost, evil.example\r\n", 400),
        ("Host: user@localhost\r\n", 400),
        ("Host: [::1]:10060\r\n", 200),
        ("Host: exporter.example\r\n", 200),
    ] {
        for path in ["/-/healthy", "/metrics", "/"] {
            let text = format!("GET {path} HTTP/1.1\r\n{head}\r\n");
            let (_, response) = ask_from(&exporter, "127.0.0.1", text.as_bytes()).await;
            assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{head:?}: {response}");
        }
    }
    let (_, response) = ask_from(&exporter, "127.0.0.1", b"GET /-/healthy HTTP/1.0\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.0 200"), "{response}");
}

/// Whatever a configuration loses in the middle of a write stays in force, and is said.
#[tokio::test]
async fn a_web_file_that_is_emptied_or_cut_off_protects_as_before() {
    let (db, files) = (Database::new().await, Files::new());
    let all = users(&[("prom", 4)]) + "tls_server_config: {cert_file: server.crt, key_file: server.key}\n";
    let config = files.write("web.yml", &all);
    let exporter = start(&db, &config).await;
    let with = "--cacert ca.crt -u prom:s3cret";
    let reloaded = |text: &str| Metrics::parse(text).value("rsolv_exporter_web_config_last_reload_successful", &[]);
    let refused = |log: &str| log.matches("a restart takes this protection away").count();
    for (text, lost) in [
        ("", vec!["basic_auth_users: nobody would need a password", "tls_server_config: TLS would be off"]),
        ("basic_auth_users:\n", vec!["tls_server_config: TLS would be off"]),
        (&all[..all.find("tls_server_config").expect("TLS")], vec!["tls_server_config: TLS would be off"]),
    ] {
        let before = refused(&exporter.log());
        // In place, as an editor or a full disk does it.
        std::fs::write(&config, text).expect("a shorter file");
        files.curl_until(&exporter, "/metrics", with, |answer| reloaded(&answer.text) == Some(0.0));
        let log = exporter.log();
        assert!(refused(&log) > before && lost.iter().all(|lost| log.contains(lost)), "{log}");
        assert_eq!(files.curl(&exporter, "https", "/metrics", "--cacert ca.crt").status, 401);
        assert_eq!(files.curl(&exporter, "http", "/metrics", "").status, 0);
        let page = files.curl(&exporter, "https", "/", with);
        assert!(page.text.contains("The web configuration has changed and is not in force"), "{}", page.text);
        std::fs::write(&config, &all).expect("the whole file");
        files.curl_until(&exporter, "/metrics", with, |answer| reloaded(&answer.text) == Some(1.0));
    }
    let page = files.curl(&exporter, "https", "/", with);
    assert!(!page.text.contains("not in force"), "{}", page.text);
}

/// Each state of it is good by itself.
#[tokio::test]
async fn a_web_file_is_read_when_it_stands_still() {
    let (db, files) = (Database::new().await, Files::new());
    let config = files.write("web.yml", users(&[("prom", 4)]));
    let exporter = start(&db, &config).await;
    let again = || exporter.log().matches("the web configuration has been read again").count();
    let began = Instant::now();
    let mut n = 0;
    while began.elapsed() < Duration::from_secs(7) {
        n += 1;
        std::fs::write(&config, users(&[("prom", 4), (&format!("user{n}"), 4)])).expect("a file");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(again(), 0, "{}", exporter.log());
    let new = request("/", &basic(&format!("user{n}"), "s3cret"));
    let deadline = Instant::now() + PATIENCE;
    while !ask_from(&exporter, "127.0.0.1", &new).await.1.starts_with("HTTP/1.1 200") {
        assert!(Instant::now() < deadline, "{}", exporter.log());
    }
    assert_eq!(again(), 1, "{}", exporter.log());
}
