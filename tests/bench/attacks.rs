//! What a scrape waits while others mean harm: `make bench` runs it, `cargo bench --bench attacks -- --seconds 2` is short.
//!
//! Everything is on 127.0.0.0/8 and stops by itself. The attackers share the processors with what they attack, so the
//! first line, without an attack, says what the machine does.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a measurement that cannot go on ends"
)]

#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use support::attack::{Attack, ask, ask_from, basic, connect, more_files, request};
use support::database::Database;
use support::execution::Validation;
use support::exporter::Exporter;
use support::failure::{Failure, Result};

/// Of bcrypt, as `htpasswd -B` users have it: about 0.2 s a password.
const COST: u32 = 12;
/// So many clients guess passwords, and so many come in a crowd: more than there are places.
const GUESSERS: usize = 100;
const CROWD: usize = 3000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let seconds = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => Some(10),
        ["--seconds", seconds] => seconds.parse().ok(),
        _ => None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = match (seconds, runtime) {
        (Some(seconds), Ok(runtime)) => runtime.block_on(compare(Duration::from_secs(seconds))),
        (None, _) => Err(Failure::new("usage: attacks [--seconds N]")),
        (_, Err(error)) => Err(error.into()),
    };
    if let Err(failure) = result {
        eprintln!("bench: {failure}");
        std::process::exit(1);
    }
}

/// What clients that mean no harm waited, in milliseconds.
#[derive(Default)]
struct Waits {
    /// A scrape with a password, on a connection that is kept.
    kept: Vec<f64>,
    /// A scrape with a password on a new connection.
    new: Vec<f64>,
    /// `/-/healthy` on a new connection.
    healthy: Vec<f64>,
    /// The first request of a user with the right password.
    first: f64,
}

async fn compare(lasting: Duration) -> Result<()> {
    more_files();
    let db = Database::new().await;
    let repo = db.repository("organisation/repository").await;
    db.insert(Validation::completed(repo, "{}")).await;
    println!("milliseconds, median / largest; each line is {} seconds", lasting.as_secs());
    println!(
        "{:44} {:>8} {:>16} {:>16} {:>16} {:>16}",
        "attack, from one address", "turns", "scrape, kept", "scrape, new", "/-/healthy", "first password"
    );
    type Start = fn(&str) -> Attack;
    let attacks: [(&str, Option<Start>); 6] = [
        ("none", None),
        ("100 guess a password and hang up", Some(|address| Attack::guess_and_hang_up(GUESSERS, address, "prom"))),
        ("100 guess a password and wait", Some(|address| Attack::guess(GUESSERS, address, "prom"))),
        ("3000 send half a request", Some(|address| Attack::half_a_head(CROWD, address))),
        ("3000 keep a connection that was served", Some(|address| Attack::keep(CROWD, address))),
        ("100 ask for the metrics and take nothing", Some(|address| Attack::take_nothing(100, address))),
    ];
    for (name, start) in attacks {
        let (waits, turns) = measure(&db, start, lasting).await?;
        let [kept, new, healthy] = [waits.kept, waits.new, waits.healthy].map(shown);
        println!("{name:44} {turns:>8} {kept:>16} {new:>16} {healthy:>16} {:>16.0}", waits.first);
    }
    Ok(())
}

async fn measure(db: &Database<'_>, start: Option<fn(&str) -> Attack>, lasting: Duration) -> Result<(Waits, u64)> {
    let directory = tempfile::tempdir()?;
    let config = directory.path().join("web.yml");
    let hash = bcrypt::hash("s3cret", COST).map_err(|e| Failure::new(e.to_string()))?;
    std::fs::write(&config, format!("basic_auth_users:\n  prom: {hash}\n  late: {hash}\n"))?;
    let flags = ["--web.config.file", &config.display().to_string(), "--poll.interval=1s"];
    let exporter = Exporter::start(&db.url(), &flags).await;
    let address = exporter.address.as_str();
    let scrape = request("/metrics", &basic("prom", "s3cret"));
    let mut kept = connect(address, "127.0.0.2").await?;
    ask(&mut kept, &scrape).await?;
    let attack = start.map(|start| start(address));
    if let Some(attack) = &attack {
        attack.reaches(GUESSERS as u64).await;
    }
    let ms = |wait: Duration| wait.as_secs_f64() * 1000.0;
    let mut waits = Waits::default();
    let late = request("/metrics", &basic("late", "s3cret"));
    waits.first = ms(good(ask_from(address, "127.0.0.1", &late).await?)?);
    let began = Instant::now();
    while began.elapsed() < lasting {
        waits.kept.push(ms(good(ask(&mut kept, &scrape).await?)?));
        waits.new.push(ms(good(ask_from(address, "127.0.0.3", &scrape).await?)?));
        waits.healthy.push(ms(good(ask_from(address, "127.0.0.3", &request("/-/healthy", "")).await?)?));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok((waits, attack.map_or(0, |attack| attack.turns())))
}

/// How long a response took that was one.
fn good((took, response): (Duration, String)) -> Result<Duration> {
    let status = response.lines().next().unwrap_or_default();
    if status.starts_with("HTTP/1.1 200") { Ok(took) } else { Err(Failure::new(format!("answered {status}"))) }
}

fn shown(mut times: Vec<f64>) -> String {
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).copied().unwrap_or(f64::NAN);
    format!("{median:.1} / {:.1}", times.last().copied().unwrap_or(f64::NAN))
}
