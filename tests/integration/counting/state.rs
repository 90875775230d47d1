//! The state file: what survives a restart, and what happens when it cannot.

use std::fs;
use std::time::Duration;

use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::execution::{Mitigation, Validation};
use crate::support::exporter::{Exporter, run};
use crate::support::metrics::Metrics;
use crate::support::source::Definitions;
use crate::support::state::{FLAGS, State};

const TOTAL: &str = "rsolv_validation_executions_total";

fn total(metrics: &Metrics) -> f64 {
    metrics.sum(TOTAL, &[])
}

async fn insert(database: &Database<'_>, repo: &str, count: usize) {
    let repo = database.repository(repo).await;
    for _ in 0..count {
        database.insert(Validation::completed(repo, r#"{"tests_generated": 2}"#)).await;
    }
}

/// Gives the durations of validations another bucket.
fn add_a_bucket(queries: &Definitions) {
    let toml = queries.path().join("validation_executions.toml");
    let text = fs::read_to_string(&toml).unwrap();
    fs::write(&toml, text.replace("buckets = [1000, 5000,", "buckets = [1000, 5000, 7000,")).unwrap();
}

#[tokio::test]
async fn after_kill_9_deletes_and_events_while_it_was_down_the_totals_go_on() {
    let (database, state) = (Database::new().await, State::new());
    insert(&database, "org/a", 20).await;
    let mut exporter = state.exporter(&database, &[]).await;
    exporter.wait_for("the history", |m| total(m) == 20.0).await;
    exporter.kill9().await;

    database.batch("DELETE FROM validation_executions WHERE id <= 18").await;
    insert(&database, "org/a", 3).await;
    insert(&database, "org/new", 1).await;
    let exporter = state.exporter(&database, &[]).await;
    let metrics = exporter.wait_for("what happened meanwhile", |m| total(m) == 24.0).await;
    assert_eq!(metrics.value(TOTAL, &[("repo", "org/a"), ("status", "completed")]), Some(23.0));
    assert_eq!(metrics.sum("rsolv_validation_test_generated_total", &[]), 48.0);
    assert_eq!(metrics.value("rsolv_exporter_state_up", &[]), Some(1.0));
    assert!(exporter.log().contains("goes on from the state"));
}

#[tokio::test]
async fn killed_at_any_moment_nothing_falls_is_lost_or_counted_twice() {
    let (database, state) = (Database::new().await, State::new());
    let (a, b) = (database.repository("org/a").await, database.repository("org/b").await);
    let mut highest = 0.0_f64;
    let mut written = 0.0;
    for round in 0..8_u64 {
        let mut exporter = state.exporter(&database, &["--poll.interval", "20ms"]).await;
        let first = exporter.wait_for("data", |m| m.matching(TOTAL, &[]).next().is_some() || round == 0).await;
        assert!(total(&first) >= highest, "round {round}: fell from {highest} to {}", total(&first));
        // The moment of the kill walks through polls: so many rows, then at once.
        for i in 0..=round * 3 {
            database.insert(Validation::completed(if i % 2 == 0 { a } else { b }, "{}")).await;
            written += 1.0;
            highest = highest.max(total(&exporter.metrics().await));
        }
        exporter.kill9().await;
        // Retention, of rows that the rounds before have counted.
        database.batch(&format!("DELETE FROM validation_executions WHERE id <= {}", highest as i64 / 2)).await;
    }
    let exporter = state.exporter(&database, &[]).await;
    exporter.wait_for("every row once", |m| total(m) == written).await;
    let metrics = exporter.wait_polls(3).await;
    assert_eq!(total(&metrics), written);
}

#[tokio::test]
async fn what_is_damaged_is_said_kept_aside_and_counted_anew() {
    let (database, state) = (Database::new().await, State::new());
    insert(&database, "org/a", 5).await;
    let mut exporter = state.exporter(&database, &[]).await;
    exporter.wait_for("the history", |m| total(m) == 5.0).await;
    exporter.terminate().await;
    let good = fs::read(&state.path).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let newer = String::from_utf8_lossy(&good).replacen("state 2 ", "state 3 ", 1).into_bytes();
    let aside = format!("{}.bad", state.path.display());
    for (bytes, said) in [
        (good[..good.len() / 2].to_vec(), "its length or checksum is wrong"),
        (Vec::new(), "it has no head line"),
        (flipped, "its length or checksum is wrong"),
        (b"hello\n{}".to_vec(), "its head line is none of ours"),
        (newer, "was written by another version of rsolv-exporter (state version 3, not 2)"),
        (with_one_count_less(&good), "validation_executions has too few or too many numbers"),
    ] {
        fs::write(&state.path, &bytes).unwrap();
        let mut exporter = state.exporter(&database, &[]).await;
        exporter.wait_for("the recount", |m| total(m) == 5.0).await;
        assert!(exporter.log().contains(said), "{said}:\n{}", exporter.log());
        assert!(exporter.log().contains(&aside), "{aside}:\n{}", exporter.log());
        assert_eq!(fs::read(&aside).unwrap(), bytes, "{said}: kept as it was");
        exporter.terminate().await;
    }
}

/// A state file whose checksum is right, and in which the first list of counts lacks its last one.
fn with_one_count_less(good: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(good);
    let (_, json) = text.split_once('\n').expect("a head line");
    let at = json.find("\"counts\":[5").expect("the counts of five rows");
    let end = at + json[at..].find(']').expect("their end");
    let last = json[..end].rfind(',').expect("more than one");
    let json = format!("{}{}", &json[..last], &json[end..]);
    let head = format!("rsolv-exporter state 2 crc32 {:08x} bytes {}\n", crc32fast::hash(json.as_bytes()), json.len());
    (head + &json).into_bytes()
}

#[tokio::test]
async fn what_cannot_be_read_is_not_replaced() {
    let (database, state) = (Database::new().await, State::new());
    // Root may read every file, but no folder as one.
    fs::create_dir(&state.path).unwrap();
    let path = state.path.to_str().unwrap();
    let own = ["--web.listen-address", "127.0.0.1:0", "--state.file", path];
    let output = run(&[&["--database.url", &database.url()], &own[..]].concat()).await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("state.file {path}: cannot be read: ")), "{said}");
    assert!(said.contains("let the exporter's user read it (chown --reference="), "{said}");
    assert!(state.path.is_dir() && !fs::exists(format!("{path}.bad")).unwrap());
}

#[tokio::test]
async fn a_changed_definition_rebuilds_its_source_alone_and_unchanged_totals_do_not_fall() {
    let (database, state) = (Database::new().await, State::new());
    let queries = Definitions::shipped();
    let flags = ["--queries.dir", queries.path().to_str().unwrap()];
    let repo = database.repository("org/a").await;
    for _ in 0..4 {
        database.insert(Validation::completed(repo, "{}").took(Duration::from_secs(2))).await;
    }
    database.insert(Mitigation::completed(repo, r#"{"trust_score": 85}"#)).await;
    let mut exporter = state.exporter(&database, &flags).await;
    exporter.wait_for("the history", |m| total(m) == 4.0).await;
    exporter.terminate().await;

    // Retention takes rows; then one histogram gets another bucket.
    database.batch("DELETE FROM validation_executions WHERE id <= 3; DELETE FROM mitigation_executions").await;
    add_a_bucket(&queries);
    let exporter = state.exporter(&database, &flags).await;
    let metrics = exporter.wait_for("data", |m| m.matching(TOTAL, &[]).next().is_some()).await;
    assert_eq!(total(&metrics), 4.0, "an unchanged counter goes on");
    let duration = |part: &str, labels: &[(&str, &str)]| {
        metrics.sum(&format!("rsolv_validation_duration_milliseconds_{part}"), labels)
    };
    let buckets = ["1000", "5000", "7000", "10000", "+Inf"].map(|le| duration("bucket", &[("le", le)]));
    assert_eq!(buckets, [0.0, 1.0, 1.0, 1.0, 1.0], "the changed histogram is what the table gives");
    assert_eq!((duration("count", &[]), duration("sum", &[])), (1.0, 2000.0));
    assert_eq!(metrics.sum("rsolv_mitigation_trust_score_value_sum", &[]), 85.0, "the other source is untouched");
    let log = exporter.log();
    assert!(log.contains("its metrics changed") && log.contains("goes on from the state"), "{log}");
}

#[tokio::test]
async fn a_changed_definition_recounts_the_same_totals_when_the_limit_of_series_is_reached() {
    let (database, state, queries) = (Database::new().await, State::new(), Definitions::shipped());
    let flags = ["--queries.dir", queries.path().to_str().unwrap(), "--series.limit", "4"];
    let mut exporter = state.exporter(&database, &flags).await;
    let mut written = 0.0;
    // The last ones of the order of labels come first, so that a recount in any other order would choose others.
    for i in (1..=8).rev() {
        insert(&database, &format!("org/{i}"), i).await;
        written += i as f64;
        exporter.wait_for("its rows", |m| total(m) == written).await;
    }
    let by_repo = |metrics: &Metrics| {
        let repos = ["__overflow__".to_owned()].into_iter().chain((1..=8).map(|i| format!("org/{i}")));
        repos.map(|repo| metrics.sum(TOTAL, &[("repo", &repo)])).collect::<Vec<_>>()
    };
    let before = by_repo(&exporter.metrics().await);
    assert_eq!(before, [10.0, 0.0, 0.0, 0.0, 0.0, 5.0, 6.0, 7.0, 8.0]);
    exporter.terminate().await;
    add_a_bucket(&queries);
    let exporter = state.exporter(&database, &flags).await;
    let metrics = exporter.wait_for("data", |m| m.matching(TOTAL, &[]).next().is_some()).await;
    assert_eq!(by_repo(&metrics), before);
    assert!(exporter.log().contains("its metrics changed"));
}

#[tokio::test]
async fn when_the_state_cannot_be_saved_polling_goes_on_and_it_is_said_once() {
    let (database, state) = (Database::new().await, State::new());
    insert(&database, "org/a", 1).await;
    // A folder where the temporary file belongs fails for root as well, as a full disk does.
    let obstacle = format!("{}.new", state.path.display());
    fs::create_dir(&obstacle).unwrap();
    let exporter = state.exporter(&database, &[]).await;
    exporter.wait_for("a failure to save", |m| m.value("rsolv_exporter_state_up", &[]) == Some(0.0)).await;
    insert(&database, "org/a", 1).await;
    let metrics = exporter.wait_for("the second row", |m| total(m) == 2.0).await;
    assert!(metrics.sum("rsolv_exporter_state_save_failures_total", &[]) >= 1.0);
    exporter.wait_polls(3).await;
    assert_eq!(exporter.log().matches("the state cannot be saved").count(), 1);
    fs::remove_dir(&obstacle).unwrap();
    let saved = |m: &Metrics| m.value("rsolv_exporter_state_up", &[]) == Some(1.0);
    exporter.wait_for("a saved state", |m| saved(m) && exporter.log().contains("the state is being saved again")).await;
}

#[tokio::test]
async fn a_second_process_and_a_missing_folder_are_refused() {
    let (database, state) = (Database::new().await, State::new());
    let _first = state.exporter(&database, &[]).await;
    let url = database.url();
    let start = async |path: &str| {
        run(&["--database.url", &url, "--web.listen-address", "127.0.0.1:0", "--state.file", path]).await
    };
    let second = start(state.path.to_str().unwrap()).await;
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("another rsolv-exporter uses it"), "{said}");
    let nowhere = start("/nowhere/state").await;
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("there is no folder /nowhere"));
}

#[tokio::test]
async fn a_truncated_table_that_starts_its_ids_again_is_counted_again() {
    let (database, state) = (Database::new().await, State::new());
    insert(&database, "org/a", 10).await;
    let exporter = state.exporter(&database, &[]).await;
    exporter.wait_for("the history", |m| total(m) == 10.0).await;
    database.batch("TRUNCATE validation_executions RESTART IDENTITY").await;
    insert(&database, "org/a", 3).await;
    exporter.wait_for("ten and three", |m| total(m) == 13.0).await;
    insert(&database, "org/a", 4).await;
    let metrics = exporter.wait_for("four more", |m| total(m) == 17.0).await;
    let rewinds = |source| metrics.value("rsolv_exporter_rewinds_total", &[("source", source)]);
    assert_eq!((rewinds("validation_executions"), rewinds("mitigation_executions")), (Some(1.0), Some(0.0)));
    assert!(exporter.log().contains("the ids started again"));
}

#[tokio::test]
async fn while_it_waits_for_a_table_it_does_not_hold_the_sequence() {
    let (database, state) = (Database::new().await, State::new());
    insert(&database, "org/a", 10).await;
    let exporter = state.exporter(&database, &["--database.lock-timeout", "25s"]).await;
    exporter.wait_for("the history", |m| total(m) == 10.0).await;
    let client = database.client().await;
    client.batch_execute("BEGIN; LOCK TABLE validation_executions").await.unwrap();
    // The cluster's other databases have tables with the same object ids.
    let locks = |relation| {
        format!(
            "FROM pg_locks WHERE relation = '{relation}'::regclass \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    };
    database.wait_until(&format!("EXISTS (SELECT {} AND NOT granted)", locks("validation_executions"))).await;
    let held = format!("SELECT count(*) {}", locks("validation_executions_id_seq"));
    assert_eq!(database.value(&held).await, "0", "TRUNCATE would wait for the exporter, and the exporter for it");
    client.batch_execute("TRUNCATE validation_executions RESTART IDENTITY; COMMIT").await.unwrap();
    insert(&database, "org/a", 3).await;
    exporter.wait_for("ten and three", |m| total(m) == 13.0).await;
}

#[tokio::test]
async fn a_sequence_that_is_set_back_while_the_exporter_is_down_is_noticed() {
    let (database, state) = (Database::new().await, State::new());
    insert(&database, "org/a", 10).await;
    let mut exporter = state.exporter(&database, &[]).await;
    exporter.wait_for("the history", |m| total(m) == 10.0).await;
    exporter.kill9().await;
    // As after a restore to an earlier moment: newer rows are gone, their ids are handed out again, older rows stay.
    database
        .batch("DELETE FROM validation_executions WHERE id > 6; SELECT setval('validation_executions_id_seq', 6)")
        .await;
    insert(&database, "org/a", 2).await;
    let exporter = state.exporter(&database, &[]).await;
    exporter.wait_for("the two new ones", |m| total(m) == 12.0).await;
    insert(&database, "org/a", 5).await;
    exporter.wait_for("five more", |m| total(m) == 17.0).await;
    let metrics = exporter.wait_polls(3).await;
    assert_eq!((total(&metrics), metrics.sum("rsolv_exporter_rewinds_total", &[])), (17.0, 1.0));
}

#[tokio::test]
async fn ids_that_start_again_and_pass_the_old_ones_are_noticed() {
    let (database, state) = (Database::new().await, State::new());
    insert(&database, "org/a", 5).await;
    let mut exporter = state.exporter(&database, &[]).await;
    exporter.wait_for("the history", |m| total(m) == 5.0).await;
    exporter.kill9().await;
    database.batch("TRUNCATE validation_executions RESTART IDENTITY").await;
    insert(&database, "org/a", 12).await;
    let exporter = state.exporter(&database, &[]).await;
    exporter.wait_for("five and twelve", |m| total(m) == 17.0).await;
    // Maintenance that rewrites both files makes no row new.
    database.batch("VACUUM FULL validation_executions").await;
    database.batch("ALTER SEQUENCE validation_executions_id_seq CACHE 2").await;
    exporter.wait_polls(3).await;
    insert(&database, "org/a", 1).await;
    let metrics = exporter.wait_for("one more", |m| total(m) >= 18.0).await;
    assert_eq!(total(&metrics), 18.0);
}

#[tokio::test]
async fn a_sequence_set_to_the_largest_id_changes_no_count() {
    let (database, state) = (Database::new().await, State::new());
    insert(&database, "org/a", 5).await;
    let repo = database.repository("org/a").await;
    for never in ["'infinity'", "timezone('UTC', now()) + interval '1 day'"] {
        database.insert(Validation { completed_at: never.into(), ..Validation::completed(repo, "{}") }).await;
    }
    let exporter = state.exporter(&database, &[]).await;
    exporter.wait_for("the history", |m| total(m) == 7.0).await;
    // One row whose transaction takes its time, one that is counted meanwhile, one that never comes.
    let late = database.client().await;
    late.batch_execute("BEGIN").await.unwrap();
    late.batch_execute(&String::from(Validation::completed(repo, "{}"))).await.unwrap();
    insert(&database, "org/a", 1).await;
    database.batch(&format!("BEGIN; {}; ROLLBACK", String::from(Validation::completed(repo, "{}")))).await;
    exporter.wait_for("the row in between", |m| total(m) == 8.0).await;
    exporter.wait_polls(2).await;
    let back = "SELECT setval('validation_executions_id_seq', (SELECT max(id) FROM validation_executions)); COMMIT";
    late.batch_execute(back).await.unwrap();
    exporter.wait_for("the late row", |m| m.sum("rsolv_exporter_rewinds_total", &[]) == 1.0 && total(m) >= 9.0).await;
    insert(&database, "org/a", 1).await;
    exporter.wait_for("one more", |m| total(m) >= 10.0).await;
    assert_eq!(total(&exporter.wait_polls(3).await), 10.0);
}

#[tokio::test]
async fn another_server_is_recognised_and_totals_become_the_larger_of_both() {
    let other = Cluster::start(&[]).unwrap();
    let (first, second) = (Database::new().await, Database::on(&other).await);
    let state = State::new();
    insert(&first, "org/a", 5).await;
    insert(&first, "org/b", 1).await;
    insert(&second, "org/a", 2).await;
    insert(&second, "org/b", 3).await;
    let mut exporter = state.exporter(&first, &[]).await;
    exporter.wait_for("the first", |m| total(m) == 6.0).await;
    exporter.terminate().await;
    let exporter = state.exporter(&second, &[]).await;
    let metrics = exporter.wait_for("the larger of both", |m| total(m) == 8.0).await;
    assert_eq!(metrics.value(TOTAL, &[("repo", "org/a"), ("status", "completed")]), Some(5.0));
    assert!(exporter.log().contains("this is another database"));
    insert(&second, "org/a", 1).await;
    exporter.wait_for("one more", |m| total(m) == 9.0).await;
}

#[tokio::test]
async fn what_appears_under_an_id_that_was_given_up_is_counted_late() {
    let database = Database::new().await;
    let repo = database.repository("org/a").await;
    database.insert(Validation::completed(repo, "{}")).await;
    let exporter = Exporter::start(&database.url(), &[&FLAGS[..], &["--poll.gap-watch", "1s"]].concat()).await;
    let gaps = |m: &Metrics| m.value("rsolv_exporter_gaps", &[("source", "validation_executions")]);
    let late_rows = |m: &Metrics| m.value("rsolv_exporter_drift_total", &[("source", "validation_executions")]);
    exporter.wait_for("the first row", |m| gaps(m) == Some(0.0) && total(m) == 1.0).await;
    // One id is drawn ahead by nobody who runs, the other by a transaction that stays open.
    let ahead = database.value("SELECT nextval('validation_executions_id_seq')").await;
    let open = database.client().await;
    open.batch_execute(&format!("BEGIN; {}", String::from(Validation::completed(repo, "{}")))).await.unwrap();
    database.insert(Validation::completed(repo, "{}")).await;
    exporter.wait_for("two rows", |m| gaps(m) == Some(2.0) && total(m) == 2.0).await;
    // What a transaction can still bring is looked for whatever its age; and while it runs, nobody knows who drew which.
    exporter.wait_polls(12).await;
    assert_eq!(gaps(&exporter.metrics().await), Some(2.0));
    open.batch_execute("COMMIT").await.unwrap();
    let third = exporter.wait_for("three rows", |m| total(m) == 3.0).await;
    assert_eq!(late_rows(&third), Some(0.0));
    exporter.wait_for("the other to be given up", |m| gaps(m) == Some(0.0)).await;
    database.batch(&Validation::completed(repo, "{}").with_id(&ahead)).await;
    let metrics = exporter.wait_for("the late row", |m| total(m) == 4.0).await;
    assert_eq!(late_rows(&metrics), Some(1.0));
    assert_eq!(total(&exporter.wait_polls(12).await), 4.0, "counted once");
}

#[tokio::test]
async fn a_table_that_was_truncated_by_mistake_and_put_back_is_not_counted_again() {
    let (database, state) = (Database::new().await, State::new());
    insert(&database, "org/a", 10).await;
    let exporter = state.exporter(&database, &[]).await;
    exporter.wait_for("the history", |m| total(m) == 10.0).await;
    database.batch("CREATE TABLE saved AS SELECT * FROM validation_executions").await;
    database.batch("TRUNCATE validation_executions RESTART IDENTITY").await;
    insert(&database, "org/a", 2).await;
    exporter.wait_for("ten and two", |m| total(m) == 12.0).await;
    database
        .batch(
            "BEGIN; TRUNCATE validation_executions; INSERT INTO validation_executions SELECT * FROM saved;
             SELECT setval('validation_executions_id_seq', 10); COMMIT",
        )
        .await;
    assert_eq!(total(&exporter.wait_polls(3).await), 12.0);
    insert(&database, "org/a", 1).await;
    exporter.wait_for("one more", |m| total(m) >= 13.0).await;
    assert_eq!(total(&exporter.wait_polls(3).await), 13.0);
}

/// The metrics of the sources, as OpenMetrics with start timestamps.
async fn openmetrics(exporter: &Exporter) -> Vec<String> {
    let accept = [("accept", "application/openmetrics-text;version=1.0.0")];
    let text = exporter.request("GET", "/metrics", &accept).await.text();
    text.lines()
        .filter(|line| line.starts_with("rsolv_") && !line.starts_with("rsolv_exporter"))
        // Exemplars are not saved.
        .map(|line| line.split(" # ").next().unwrap_or(line).to_owned())
        .collect()
}

#[tokio::test]
async fn without_a_database_the_state_is_served_as_of_its_time() {
    let (database, state) = (Database::new().await, State::new());
    insert(&database, "org/a", 3).await;
    let repo = database.repository("org/b").await;
    let hold = ["--series.birth-hold", "1h", "--web.openmetrics-created", "true"];
    let mut exporter = state.exporter(&database, &hold).await;
    exporter.wait_for("history", |m| total(m) == 3.0).await;
    database.insert(Validation::open(repo, "running", "{}")).await;
    insert(&database, "org/b", 2).await;
    let rows = |m: &Metrics| m.sum("rsolv_exporter_rows_counted_total", &[]);
    exporter.wait_for("five rows", |m| rows(m) == 5.0).await;
    // What a poll shows, the one before it or itself has saved.
    exporter.wait_polls(2).await;
    let before = openmetrics(&exporter).await;
    assert!(before.iter().any(|line| line.contains("_created{") && line.contains("org/b")), "{before:?}");
    assert!(before.contains(&"rsolv_validation_executions_open{status=\"running\"} 1".to_owned()), "{before:?}");
    exporter.kill9().await;

    let nowhere = ["--database.url", "postgresql://127.0.0.1:1/nowhere", "--web.listen-address", "127.0.0.1:0"];
    let own = ["--state.file", state.path.to_str().unwrap(), "--poll.interval", "100ms"];
    let stale = ["--poll.stale-after", "10s"];
    let exporter = Exporter::launch(&[&nowhere[..], &own, &hold, &stale].concat(), &[]).await.unwrap();
    let metrics = exporter.metrics().await;
    assert_eq!((exporter.get("/-/ready").await.status, rows(&metrics)), (200, 5.0));
    assert_eq!(metrics.value("rsolv_exporter_up", &[]), Some(0.0));
    assert_eq!(openmetrics(&exporter).await, before, "held series are held, and starts stay");
    let metrics = exporter.wait_for("data that is stale", |m| m.matching(TOTAL, &[]).next().is_none()).await;
    assert_eq!((exporter.get("/-/ready").await.status, rows(&metrics)), (503, 5.0));
}

#[tokio::test]
async fn a_state_that_is_too_old_or_of_other_metrics_waits_for_the_database() {
    let (database, state, queries) = (Database::new().await, State::new(), Definitions::shipped());
    insert(&database, "org/a", 3).await;
    let mut exporter = state.exporter(&database, &[]).await;
    exporter.wait_for("history", |m| total(m) == 3.0).await;
    exporter.terminate().await;
    let nowhere = ["--database.url", "postgresql://127.0.0.1:1/nowhere", "--web.listen-address", "127.0.0.1:0"];
    let own = ["--state.file", state.path.to_str().unwrap(), "--queries.dir", queries.path().to_str().unwrap()];
    for (stale_after, status) in [("1h", 200), ("1ms", 503)] {
        let flags = ["--poll.interval", "1ms", "--poll.stale-after", stale_after];
        let exporter = Exporter::launch(&[&nowhere[..], &own, &flags].concat(), &[]).await.unwrap();
        assert_eq!(exporter.get("/-/ready").await.status, status, "{stale_after}");
    }
    add_a_bucket(&queries);
    let exporter = Exporter::launch(&[&nowhere[..], &own].concat(), &[]).await.unwrap();
    let metrics = exporter.metrics().await;
    assert!(metrics.matching(TOTAL, &[]).next().is_none(), "the new bucket is not counted yet");
    assert!(metrics.matching("rsolv_mitigation_executions_open", &[]).next().is_some(), "nothing is new there");
}
