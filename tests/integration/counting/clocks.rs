//! Clocks that are wrong: the application's, and the database's.

use crate::support::cluster::Cluster;
use crate::support::source::{EVENTS, Source};

/// A table whose rows finish so much later than the database's clock says.
fn ahead(by: &str) -> String {
    EVENTS.replace("clock_timestamp()", &format!("clock_timestamp() + interval '{by}'"))
}

/// Rows of the table are counted, its sequence and its type change, and more rows come.
async fn is_exact_when_changed(by: &str, rows: u32) {
    let mut source = Source::new(&[&ahead(by)]).await;
    source.insert(rows).await;
    source.start().await;
    source.counts(rows).await;
    source.db.batch("SELECT nextval('events_id_seq') FROM generate_series(1, 5)").await;
    source.polls().await;
    source.db.batch("SELECT setval('events_id_seq', (SELECT max(id) FROM events))").await;
    source.counts(rows).await;
    source.db.batch("ALTER TABLE events ALTER id TYPE bigint").await;
    source.db.batch("ALTER SEQUENCE events_id_seq AS bigint").await;
    source.counts(rows).await;
    source.insert(10).await;
    source.counts(rows + 10).await;
    source.stop().await;
    source.db.batch("VACUUM FULL events").await;
    source.db.batch("SELECT nextval('events_id_seq') FROM generate_series(1, 5)").await;
    source.start().await;
    source.counts(rows + 10).await;
    source.db.batch("SELECT setval('events_id_seq', (SELECT max(id) FROM events))").await;
    source.insert(10).await;
    source.counts(rows + 20).await;
}

#[tokio::test]
async fn an_application_that_is_three_seconds_ahead() {
    is_exact_when_changed("3 seconds", 15).await;
}

#[tokio::test]
async fn times_that_are_local() {
    is_exact_when_changed("1 hour", 200).await;
    is_exact_when_changed("-8 hours", 50).await;
}

#[tokio::test]
async fn a_crash_that_sets_the_sequence_back() {
    let settings = [("autovacuum", "off"), ("wal_writer_delay", "10s"), ("checkpoint_timeout", "1h")];
    let cluster = Cluster::start(&settings).expect("a server");
    let mut source = Source::on(&cluster, &[&ahead("3 seconds")]).await;
    source.insert(3).await;
    source.db.batch("CHECKPOINT").await;
    source.start().await;
    source.counts(3).await;
    // Nothing of what a transaction draws that does not commit has to be on disk.
    let writer = source.db.client().await;
    writer.batch_execute("BEGIN; SELECT nextval('events_id_seq') FROM generate_series(1, 40)").await.expect("ids");
    source.polls().await;
    cluster.kill9().expect("a crash");
    cluster.start_again().expect("a recovery");
    source.db.reconnect().await;
    let last = source.db.value("SELECT last_value FROM events_id_seq").await;
    assert_eq!(last, "3", "the sequence has not gone back");
    source.counts(3).await;
    source.insert(50).await;
    source.counts(53).await;
}

/// Puts a clock of our own in the place of the database's, ahead by `clock.ahead`.
const CLOCK: &str = "
CREATE TABLE clock AS SELECT interval '0' AS ahead;
ALTER FUNCTION pg_catalog.clock_timestamp() RENAME TO true_clock_timestamp;
CREATE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS
  'SELECT pg_catalog.true_clock_timestamp() + ahead FROM public.clock'";

#[tokio::test]
async fn one_row_far_ahead_and_ordinary_ones_half_a_day_later() {
    let mut source = Source::new(&[EVENTS, CLOCK]).await;
    source.insert(10).await;
    source.db.batch("INSERT INTO events (id) VALUES (5010)").await;
    source.start().await;
    source.counts(11).await;
    source.db.batch("UPDATE clock SET ahead = '12 hours'").await;
    source.polls().await;
    source.insert(10).await;
    source.counts(21).await;
    // What is between is given up after a day, but not what the sequence has still to hand out.
    source.db.batch("UPDATE clock SET ahead = '3 days'").await;
    source.polls().await;
    source.insert(10).await;
    source.counts(31).await;
}

#[tokio::test]
async fn a_clock_that_is_two_days_ahead_for_a_while() {
    let mut source = Source::new(&[EVENTS, CLOCK]).await;
    let late = source.db.client().await;
    source.insert(1).await;
    late.batch_execute("BEGIN; INSERT INTO events DEFAULT VALUES").await.expect("a row");
    source.insert(2).await;
    source.start().await;
    source.counts(3).await;
    source.db.batch("UPDATE clock SET ahead = '2 days'").await;
    source.polls().await;
    source.db.batch("UPDATE clock SET ahead = '0'").await;
    source.polls().await;
    late.batch_execute("COMMIT").await.expect("a commit");
    source.counts(4).await;
    // Backwards, too; and a row that was drawn ahead comes while ids in the future are settled.
    source.db.batch("SELECT nextval('events_id_seq')").await;
    source.insert(1).await;
    source.db.batch("UPDATE clock SET ahead = '-2 days'").await;
    source.counts(5).await;
    source.db.batch("INSERT INTO events (id) VALUES (5)").await;
    source.counts(6).await;
}
