//! Ids that start again.

use crate::support::database::READ_ALL;
use crate::support::source::{EVENTS, SELECT, Source, TOML};

/// A definition that names no sequence.
fn without_sequence() -> String {
    TOML.lines().filter(|line| !line.starts_with("sequence")).map(|line| format!("{line}\n")).collect()
}

#[tokio::test]
async fn a_table_made_anew_whose_grant_comes_later() {
    let mut source = Source::new(&[EVENTS, &EVENTS.replace("events", "others")]).await;
    let others = TOML.replace("events", "others");
    source.define("others", &SELECT.replace("events", "others"), &others);
    source.insert(10).await;
    let role = source.db.role(&[READ_ALL]).await;
    source.connect_as(&role);
    source.start().await;
    source.counts(10).await;
    source.db.batch("DROP TABLE events").await;
    source.db.batch(EVENTS).await;
    source.insert(7).await;
    source.db.batch("INSERT INTO others DEFAULT VALUES").await;
    source.exporter().wait_for("the other one", |m| m.sum("others_total", &[]) == 1.0).await;
    source.polls().await;
    source.db.batch(&format!("GRANT SELECT ON events TO {role}")).await;
    source.counts(17).await;
    source.counts_of("others", 1).await;
    source.stop().await;
    source.db.batch(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_sequence_set_back_before_all_rows_are_replaced() {
    let source = Source::counted(10).await;
    source.db.batch("SELECT setval('events_id_seq', 1)").await;
    source.polls().await;
    source.counts(10).await;
    source.db.batch("DELETE FROM events; INSERT INTO events (done) SELECT true FROM generate_series(1, 7)").await;
    source.counts(17).await;
    source.insert(20).await;
    source.counts(37).await;
}

#[tokio::test]
async fn a_sequence_that_is_ahead_of_a_transaction_that_replaces_all_rows() {
    let source = Source::counted(10).await;
    let writer = source.db.client().await;
    writer.batch_execute("BEGIN; DELETE FROM events").await.expect("no rows");
    source.db.batch("SELECT setval('events_id_seq', 1)").await;
    source.polls().await;
    let rows = "INSERT INTO events (done) SELECT true FROM generate_series(1, 7)";
    writer.batch_execute(rows).await.expect("rows");
    source.polls().await;
    writer.batch_execute("COMMIT").await.expect("a commit");
    source.counts(17).await;
    source.insert(20).await;
    source.counts(37).await;
}

#[tokio::test]
async fn a_sequence_set_back_by_the_transaction_that_replaces_all_rows() {
    let source = Source::counted(10).await;
    let writer = source.db.client().await;
    let mut total = 10;
    // Fewer each time: a sequence that ends where it stood before tells nothing.
    for (polls, rows) in [(0, 7), (1, 5)] {
        let rows_again = format!("INSERT INTO events (done) SELECT true FROM generate_series(1, {rows})");
        let replace = format!("BEGIN; DELETE FROM events; SELECT setval('events_id_seq', 1, false); {rows_again}");
        writer.batch_execute(&replace).await.expect("rows");
        for _ in 0..polls {
            source.exporter().wait_polls(1).await;
        }
        writer.batch_execute("COMMIT").await.expect("a commit");
        total += rows;
        source.counts(total).await;
    }
    source.insert(20).await;
    source.counts(total + 20).await;
}

#[tokio::test]
async fn a_sequence_set_back_while_the_select_changes() {
    let mut source = Source::counted(100).await;
    source.stop().await;
    source.define("events", &format!("{SELECT} WHERE id > 0"), TOML);
    source.db.batch("SELECT nextval('events_id_seq'); SELECT nextval('events_id_seq')").await;
    source.db.batch("SELECT setval('events_id_seq', (SELECT max(id) FROM events))").await;
    source.start().await;
    source.counts(100).await;
    source.insert(5).await;
    source.counts(105).await;
}

#[tokio::test]
async fn a_sequence_set_during_a_first_read() {
    let mut source = Source::new(&[EVENTS]).await;
    source.insert(100_000).await;
    source.start().await;
    let setting = async {
        loop {
            for last in [50_000, 100_000, 1, 100_000] {
                source.db.value(&format!("SELECT setval('events_id_seq', {last})")).await;
            }
            source.db.value("SELECT pg_sleep(0.01)").await;
        }
    };
    let read = source.exporter().wait_for("all", |m| m.sum("events_total", &[]) >= 100_000.0);
    tokio::select! {
        () = setting => {}
        _ = read => {}
    }
    source.db.batch("SELECT setval('events_id_seq', 100000)").await;
    source.counts(100_000).await;
    source.insert(3).await;
    source.counts(100_003).await;
}

#[tokio::test]
async fn a_table_emptied_where_no_sequence_is_named() {
    let mut source = Source::new(&[EVENTS]).await;
    source.define("events", SELECT, &without_sequence());
    source.insert(100).await;
    source.start().await;
    source.counts(100).await;
    source.db.batch("TRUNCATE events RESTART IDENTITY").await;
    source.insert(50).await;
    source.counts(150).await;
    // And with polls that see it empty.
    source.db.batch("TRUNCATE events RESTART IDENTITY").await;
    source.polls().await;
    for more in 1..=10 {
        source.insert(5).await;
        source.exporter().wait_polls(1).await;
        source.exporter().wait_for("some", |m| m.sum("events_total", &[]) >= f64::from(150 + 5 * (more - 1))).await;
    }
    source.counts(200).await;
}

#[tokio::test]
async fn a_table_emptied_many_times() {
    let mut source = Source::counted(20).await;
    let mut total = 20;
    for rows in [1, 7, 30, 30, 2, 50] {
        source.db.batch("TRUNCATE events RESTART IDENTITY").await;
        if rows % 2 == 0 {
            source.polls().await;
        }
        source.insert(rows).await;
        total += rows;
        source.counts(total).await;
    }
    source.stop().await;
    source.db.batch("TRUNCATE events RESTART IDENTITY").await;
    source.insert(60).await;
    source.start().await;
    source.counts(total + 60).await;
}

#[tokio::test]
async fn a_table_emptied_while_its_ids_go_on() {
    let source = Source::counted(20).await;
    source.db.batch("TRUNCATE events").await;
    source.polls().await;
    source.insert(30).await;
    source.counts(50).await;
}

#[tokio::test]
async fn a_table_emptied_and_loaded_with_the_same_rows_or_with_others() {
    let source = Source::counted(100).await;
    source.db.batch("CREATE TABLE copy AS SELECT * FROM events").await;
    source.db.batch("TRUNCATE events").await;
    source.polls().await;
    source.db.batch("INSERT INTO events SELECT * FROM copy").await;
    source.counts(100).await;
    source.db.batch("TRUNCATE events RESTART IDENTITY").await;
    source.polls().await;
    // The same rows with the same ids, and then the sequence where they end.
    source.db.batch("INSERT INTO events SELECT * FROM copy WHERE id > 50").await;
    source.polls().await;
    source.db.batch("INSERT INTO events SELECT * FROM copy WHERE id <= 50").await;
    source.db.batch("SELECT setval('events_id_seq', 100)").await;
    source.counts(100).await;
    source.insert(10).await;
    source.counts(110).await;
    // Others, under the same ids.
    source.db.batch("TRUNCATE events RESTART IDENTITY").await;
    source.insert(110).await;
    source.counts(220).await;
}

#[tokio::test]
async fn a_sequence_that_cycles() {
    let table = EVENTS.replace("GENERATED BY DEFAULT AS IDENTITY", "DEFAULT nextval('events_id_seq')");
    let mut source = Source::new(&["CREATE SEQUENCE events_id_seq MAXVALUE 20 CYCLE", &table]).await;
    source.insert(20).await;
    source.start().await;
    source.counts(20).await;
    for round in 1..=9 {
        // The oldest make room for new ones.
        source.db.batch("DELETE FROM events WHERE id IN (SELECT id FROM events ORDER BY at LIMIT 5)").await;
        if round % 2 == 0 {
            source.polls().await;
        }
        source.insert(5).await;
        source.counts(20 + 5 * round).await;
    }
}
