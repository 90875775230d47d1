//! `backfill`: history from before the exporter existed.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::database::Database;
use crate::support::execution::{Mitigation, NOW, Validation};
use crate::support::exporter::{program, run};
use crate::support::failure::Failure;
use crate::support::metrics::Metrics;
use crate::support::prometheus::Prometheus;
use crate::support::rows::fill;
use crate::support::state::save_state;

const LABELS: [&str; 4] = ["--label", "job=rsolv-exporter", "--label", "instance=exporter:10060"];

/// Executions of the last four days, a few an hour, in a random order of ids.
async fn history(db: &Database<'_>) {
    let repos = [db.repository("org/app").await, db.repository("RSOLV-dev/demo").await];
    for i in 0..240_u32 {
        // 96 hours, each minute at most once, and the ids in no order of time.
        let minutes = (i * 1_013) % 5_760;
        let at = format!("{NOW} - interval '{minutes} minutes 7.25 seconds'");
        let started = format!("{at} - interval '{} milliseconds'", 300 * (i % 97) * (i % 89));
        let data = json!({"language": if i % 3 == 0 { "ruby" } else { "go" }, "tests_generated": if i % 7 == 0 { json!(null) } else { json!(i % 5) },
            "trust_score": (i * 7) % 101, "prUrl": if i % 2 == 0 { "x" } else { "" }});
        let repo = repos[usize::from(i % 4 == 0)];
        let status = if i % 6 == 0 { "failed" } else { "completed" };
        let row = Validation {
            status,
            started_at: started.clone(),
            completed_at: at.clone(),
            ..Validation::completed(repo, &data)
        };
        db.insert(row).await;
        db.insert(Mitigation { status, started_at: started, completed_at: at, ..Mitigation::completed(repo, &data) })
            .await;
    }
}

async fn backfilled(url: &str, more: &[&str]) -> String {
    let output = run(&[&["backfill", "--database.url", url][..], &LABELS, more].concat()).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Samples by series, each with its time, in order.
fn samples(text: &str) -> BTreeMap<String, Vec<(f64, f64)>> {
    let mut series: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (sample, time) = line.rsplit_once(' ').expect("a timestamp");
        let (name, value) = sample.rsplit_once(' ').expect("a value");
        let pair = (time.parse().expect("a time"), value.parse().expect("a number"));
        series.entry(name.to_owned()).or_default().push(pair);
    }
    series
}

/// A promtool that has made blocks of `text`, in a Prometheus that serves them.
async fn prometheus(text: &str) -> Prometheus {
    Prometheus::start_on("global: {}", &[], |folder| {
        std::fs::write(folder.join("history.txt"), text)?;
        let mut command = Command::new("promtool");
        command.args(["tsdb", "create-blocks-from", "openmetrics", "history.txt", "data"]);
        let output = command.current_dir(folder).stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(Failure::new(format!("promtool: {said}"))) }
    })
    .await
    .expect("a Prometheus on the blocks")
}

#[tokio::test]
async fn a_day_in_the_past_has_the_increase_that_sql_gives() {
    let db = Database::new().await;
    history(&db).await;
    let url = db.reader().await;
    // Whole minutes, so that the ends of the day are points.
    let now: f64 = db.value("SELECT floor(extract(epoch FROM now()) / 60) * 60").await.parse().unwrap();
    let from = format!("{}", now - 4.0 * 86_400.0);
    let text = backfilled(&url, &["--from", &from, "--to", &format!("{now}"), "--step", "5m"]).await;
    let prometheus = prometheus(&text).await;
    let (start, end) = (now - 3.0 * 86_400.0, now - 2.0 * 86_400.0);
    let day = format!(
        "completed_at AT TIME ZONE 'UTC' > to_timestamp({start}) AND completed_at AT TIME ZONE 'UTC' <= to_timestamp({end})"
    );
    let sql = |what: &str, table: &str, and: &str| format!("SELECT {what} FROM {table} WHERE {day} AND {and}");
    let job = "job=\"rsolv-exporter\",instance=\"exporter:10060\"";
    for (selector, sql) in [
        (format!("rsolv_validation_executions_total{{{job}}}"), sql("count(*)", "validation_executions", "true")),
        (
            format!("rsolv_validation_executions_total{{{job},language=\"ruby\",status=\"failed\"}}"),
            sql("count(*)", "validation_executions", "status = 'failed' AND data->>'language' = 'ruby'"),
        ),
        (
            format!("rsolv_validation_test_generated_total{{{job}}}"),
            sql("sum((data->>'tests_generated')::int)", "validation_executions", "true"),
        ),
        (
            format!("rsolv_validation_tests_reported_total{{{job}}}"),
            sql("count(*)", "validation_executions", "data->>'tests_generated' IS NOT NULL"),
        ),
        (
            format!("rsolv_mitigation_trust_score_value_sum{{{job}}}"),
            sql("sum((data->>'trust_score')::int)", "mitigation_executions", "true"),
        ),
        (
            format!("rsolv_validation_duration_milliseconds_bucket{{{job},le=~\"60000(\\\\.0)?\"}}"),
            sql("count(*)", "validation_executions", "completed_at - started_at <= interval '1 minute'"),
        ),
        (
            format!("rsolv_mitigation_pr_created_total{{{job}}}"),
            sql("count(*)", "mitigation_executions", "data->>'prUrl' <> ''"),
        ),
    ] {
        let expected: f64 = db.value(&sql).await.parse().unwrap();
        assert!(expected > 2.0, "{sql}");
        let difference = format!("sum({selector} @ {end} - {selector} @ {start})");
        assert_eq!(prometheus.query(&difference).await[0].1, expected, "{selector}");
        // The window begins and ends on a sample, so at most one step of it is extrapolated.
        let increase = prometheus.query(&format!("sum(increase({selector}[1d] @ {end}))")).await[0].1;
        assert!((increase - expected).abs() <= expected * 0.01, "{selector}: {increase}, SQL {expected}");
    }
    // A gap in the events is no gap in the series.
    let every = prometheus.query(&format!("count_over_time(rsolv_validation_executions_total{{language=\"ruby\",status=\"failed\",repo=\"org/app\"}}[1d:5m] @ {end})")).await;
    // One more when the day ends on a multiple of five minutes: both ends belong to the window.
    assert!((288.0..=289.0).contains(&every[0].1), "{every:?}");
    let newest = format!("rsolv_validation_last_execution_timestamp_seconds @ {end}");
    let expected: f64 =
        db.value(&sql("extract(epoch FROM max(completed_at))", "validation_executions", "true")).await.parse().unwrap();
    assert!((prometheus.query(&newest).await[0].1 - expected).abs() < 0.001);
}

#[tokio::test]
async fn series_rise_to_the_live_values_and_begin_at_zero() {
    let db = Database::new().await;
    fill(&db).await;
    history(&db).await;
    let repo = db.repository("odd/times").await;
    for at in ["'infinity'", "'-infinity'", "'2999-01-01'", "'1999-01-01'"] {
        db.insert(Validation { completed_at: at.into(), ..Validation::completed(repo, "{}") }).await;
    }
    let url = db.reader().await;
    let text = backfilled(&url, &["--from", "2d", "--step", "1h"]).await;
    assert!(text.ends_with("# EOF\n"));
    let once = run(&["once", "--database.url", &url]).await;
    let live = Metrics::parse(&String::from_utf8(once.stdout).unwrap());
    let of = |name: &str| {
        name.starts_with("rsolv_")
            && !name.starts_with("rsolv_exporter_")
            && !name.ends_with("_open")
            && !name.contains("_oldest_open_")
    };
    let live: BTreeMap<(String, BTreeMap<String, String>), f64> = live
        .samples
        .into_iter()
        .filter(|s| of(&s.name))
        .map(|mut s| {
            // OpenMetrics writes bounds as floats.
            if let Some(le) = s.labels.get_mut("le").filter(|le| !le.contains(['.', 'I'])) {
                le.push_str(".0");
            }
            s.labels.insert("job".into(), "rsolv-exporter".into());
            s.labels.insert("instance".into(), "exporter:10060".into());
            ((s.name, s.labels), s.value)
        })
        .collect();
    let past = samples(&text);
    let parsed = |series: &str| {
        let sample = Metrics::parse(&format!("{series} 0")).samples.remove(0);
        (sample.name, sample.labels)
    };
    let mut born = 0;
    for (series, points) in &past {
        let (time, last) = points.last().unwrap();
        let value = live.get(&parsed(series)).unwrap_or_else(|| panic!("not live: {series}"));
        assert!(last <= value && value - last <= value * 1e-11, "{series}: last {last}, live {value}");
        assert!(points.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{series}: {points:?}");
        let now: f64 = db.value("SELECT extract(epoch FROM now())").await.parse().unwrap();
        assert!(now - time < 60.0);
        // All points from the first one on, an hour apart but for the last.
        let steps: Vec<f64> = points.windows(2).map(|p| p[1].0 - p[0].0).collect();
        assert!(steps[..steps.len().saturating_sub(1)].iter().all(|step| (step - 3600.0).abs() < 1e-3), "{series}");
        if points.len() < 49 && !series.contains("timestamp_seconds") {
            assert_eq!(points[0].1, 0.0, "{series} begins late and so at zero");
            born += 1;
        }
    }
    assert!(born > 20, "{born}");
    assert_eq!(past.len(), live.len(), "every live series has a past");
    // Families in one piece, and in them series in one piece.
    let mut finished = std::collections::BTreeSet::new();
    let mut last = String::new();
    for line in text.lines().filter(|line| line.starts_with("# TYPE")) {
        assert!(line != last && finished.insert(line.to_owned()), "twice: {line}");
        last = line.to_owned();
    }
}

#[tokio::test]
async fn rows_that_are_gone_count_as_before_the_beginning() {
    let db = Database::new().await;
    history(&db).await;
    let url = db.reader().await;
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    save_state(&url, &state, &[]).await;
    // A whole repository with all its executions, and some of the other.
    db.batch("DELETE FROM repositories WHERE full_path = 'RSOLV-dev/demo'").await;
    db.batch("DELETE FROM validation_executions WHERE id % 5 = 0").await;
    let text = backfilled(&url, &["--from", "2d", "--step", "1h", "--state.file", state.to_str().unwrap()]).await;
    let past = samples(&text);
    let total = |name: &str, place: fn(&Vec<(f64, f64)>) -> f64| -> f64 {
        past.iter().filter(|(series, _)| series.starts_with(name)).map(|(_, points)| place(points)).sum()
    };
    let name = "rsolv_validation_executions_total{";
    assert_eq!(total(name, |points| points.last().unwrap().1), 240.0, "as the ledger has it");
    let within =
        "SELECT count(*) FROM validation_executions WHERE completed_at > timezone('UTC', now()) - interval '2 days'";
    let within: f64 = db.value(within).await.parse().unwrap();
    let risen = total(name, |points| points.last().unwrap().1 - points[0].1);
    assert!((risen - within).abs() <= 1.0, "{risen} rose, {within} in the table");
    let demo = "rsolv_validation_test_generated_total{repo=\"RSOLV-dev/demo\"";
    assert!(total(demo, |points| points[0].1) > 0.0);
    assert_eq!(total(demo, |points| points.last().unwrap().1 - points[0].1), 0.0);
}

#[tokio::test]
async fn days_in_a_directory_become_the_same_blocks_as_one_stream() {
    let db = Database::new().await;
    history(&db).await;
    let url = db.reader().await;
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("history").to_str().unwrap().to_owned();
    let arguments = ["backfill", "--database.url", &url, "--from", "3d", "--step", "5m", "--output-dir", &dir];
    let arguments = [&arguments[..], &LABELS].concat();
    let output = run(&arguments).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && output.stdout.is_empty(), "{said}");
    // First how much it will be, then what to do with it.
    let (first, last) = said.split_once('\n').unwrap();
    let (series, rest) = first.split_once(" series, about ").unwrap();
    let (million, rest) = rest.split_once(" million samples, ").unwrap();
    assert!(rest.contains("MB; a minute at most"), "{said}");
    assert!(last.contains("promtool tsdb create-blocks-from openmetrics --max-block-duration=24h \"$day\""), "{said}");
    let days = || {
        let files = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        let mut days: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "om")).collect();
        days.sort();
        days
    };
    assert!((4..=5).contains(&days().len()), "{:?}", days());
    let text: String = days().iter().map(|day| std::fs::read_to_string(day).unwrap()).collect();
    let all = samples(&text.replace("# EOF\n", ""));
    let written: usize = all.values().map(Vec::len).sum();
    // With the two gauges of the newest execution.
    assert_eq!(series.parse::<usize>().unwrap() + 2, all.len());
    let estimated = million.parse::<f64>().unwrap() * 1e6;
    assert!((0.8..1.6).contains(&(estimated / written as f64)), "{estimated} estimated, {written} written");
    assert!(all.values().all(|points| points.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1)));
    let prometheus = Prometheus::start_on("global: {}", &[], |folder| {
        for day in days() {
            let mut command = Command::new("promtool");
            command.args(["tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=24h"]);
            let output = command.arg(day).arg("data").current_dir(folder).stdin(Stdio::null()).output()?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            if !output.status.success() {
                return Err(Failure::new(format!("promtool: {said}")));
            }
        }
        Ok(())
    })
    .await
    .expect("a Prometheus on the blocks");
    let now: f64 = db.value("SELECT floor(extract(epoch FROM now()) / 300) * 300").await.parse().unwrap();
    let before = now - 172_800.0;
    let total = "rsolv_validation_executions_total";
    let increase = prometheus.query(&format!("sum({total} @ {now} - {total} @ {before})")).await;
    let at = "completed_at AT TIME ZONE 'UTC'";
    let sql = format!(
        "SELECT count(*) FROM validation_executions WHERE {at} > to_timestamp({before}) AND {at} <= to_timestamp({now})"
    );
    assert_eq!(increase[0].1, db.value(&sql).await.parse::<f64>().unwrap());

    // It goes on where it ended: days that are there stay as they are, but for the last.
    let before: Vec<_> = days().iter().map(|day| std::fs::read(day).unwrap()).collect();
    let (lost, kept) = (days()[1].clone(), days()[0].clone());
    std::fs::remove_file(&lost).unwrap();
    std::fs::write(&kept, "kept").unwrap();
    let output = run(&arguments).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("wrote 2 of "), "{said}");
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "kept");
    assert!(std::fs::read(&lost).unwrap() == before[1], "the same as in the first run");
    // Other options would not fit what is there.
    let other = run(&[&arguments[..], &["--label", "cluster=a"]].concat()).await;
    assert_eq!(other.status.code(), Some(2), "{}", String::from_utf8_lossy(&other.stderr));
    let full = folder.path().to_str().unwrap();
    let output = run(&["backfill", "--database.url", &url, "--from", "1d", "--output-dir", full]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("name an empty directory"), "{said}");
}

#[tokio::test]
async fn memory_does_not_grow_with_the_range() {
    let db = Database::new().await;
    for i in 0..200 {
        db.repository(&format!("org/app{i}")).await;
    }
    db.batch(
        "INSERT INTO validation_executions (repository_id, issue_number, commit_sha, status, data, completed_at,
           inserted_at, updated_at)
         SELECT (SELECT min(id) FROM repositories) + i % 200, 1, 'c', 'completed',
           '{\"language\": \"go\", \"tests_generated\": 3}', t, t, t
         FROM generate_series(1, 30000) AS i, LATERAL (SELECT timezone('UTC', now()) - i * interval '1 minute' AS t) AS x",
    )
    .await;
    let url = db.reader().await;
    let peak = async |days: &str| {
        let mut child = Command::new(program())
            .args(["backfill", "--database.url", &url, "--from", days, "--step", "30m"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the exporter can be run");
        let (mut peak, status) = (0, format!("/proc/{}/status", child.id()));
        loop {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            peak = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(peak);
            if let Some(status) = child.try_wait().expect("a child") {
                assert!(status.success(), "{status}");
                return peak;
            }
            tokio::time::sleep(crate::support::process::TICK).await;
        }
    };
    let (one, twenty): (u64, u64) = (peak("1d").await, peak("20d").await);
    assert!(one > 1_000 && twenty < one + 4_000, "{one} kB for a day, {twenty} kB for twenty");
}

#[tokio::test]
async fn what_cannot_be_done_is_said() {
    let db = Database::new().await;
    history(&db).await;
    let url = db.reader().await;
    for (arguments, status, expected) in [
        (vec!["--from", "1d", "--to", "2d"], 2, "--from must be before --to"),
        (vec!["--from", "tomorrow"], 2, "is no time such as"),
        (vec!["--from", "1d", "--label", "repo=x"], 2, "--label repo"),
        (vec!["--from", "1d", "--label", "x"], 2, "must be NAME=VALUE"),
    ] {
        let output = run(&[&["backfill", "--database.url", &url][..], &arguments].concat()).await;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{text}");
        assert!(text.contains(expected), "{text}");
    }
    let mut lock = db.client().await;
    let lock = lock.transaction().await.unwrap();
    lock.batch_execute("LOCK validation_executions").await.unwrap();
    let fast = ["backfill", "--database.url", &url, "--from", "1d", "--database.lock-timeout", "100ms"];
    let output = run(&fast).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("lock not available"), "{text}");
    assert!(!output.stdout.ends_with(b"# EOF\n"));
}
