//! Tables that are rewritten, exchanged and moved.

use crate::support::source::{EVENTS, Source, TOML};

/// Three rows that are counted and ten that are open.
async fn in_use() -> Source<'static> {
    let mut source = Source::new(&[EVENTS]).await;
    source.db.batch("INSERT INTO events (done) SELECT i > 10 FROM generate_series(1, 13) AS i").await;
    source.start().await;
    source.counts(3).await;
    source
}

/// Rewrites the table by `sql` while a poll waits for it, then lets all rows finish.
async fn rewritten_during_a_poll(sql: &str) {
    let source = in_use().await;
    let writer = source.db.client().await;
    writer.batch_execute(&format!("BEGIN; {sql}")).await.expect(sql);
    source.poll_waits().await;
    writer.batch_execute("COMMIT").await.expect("a commit");
    source.polls().await;
    source.db.batch("UPDATE events SET done = true").await;
    source.counts(13).await;
    source.insert(4).await;
    source.counts(17).await;
}

#[tokio::test]
async fn a_column_gets_another_type_during_a_poll() {
    rewritten_during_a_poll("ALTER TABLE events ALTER id TYPE bigint").await;
}

#[tokio::test]
async fn a_column_with_a_volatile_default_is_added_during_a_poll() {
    rewritten_during_a_poll("ALTER TABLE events ADD COLUMN token float8 DEFAULT random()").await;
}

#[tokio::test]
async fn a_table_is_sorted_during_a_poll() {
    rewritten_during_a_poll("CLUSTER events USING events_pkey").await;
}

#[tokio::test]
async fn a_table_is_loaded_anew_during_a_poll() {
    let sql = "CREATE TABLE copy AS SELECT * FROM events; TRUNCATE events; INSERT INTO events SELECT * FROM copy";
    rewritten_during_a_poll(sql).await;
}

#[tokio::test]
async fn a_copy_takes_the_place_of_a_table_during_a_poll() {
    let sql = "CREATE TABLE copy (LIKE events INCLUDING ALL EXCLUDING IDENTITY); INSERT INTO copy SELECT * FROM events;
        ALTER TABLE copy ALTER id TYPE bigint, ALTER id SET DEFAULT nextval('events_id_seq');
        ALTER TABLE events RENAME TO old; ALTER TABLE copy RENAME TO events";
    rewritten_during_a_poll(sql).await;
}

#[tokio::test]
async fn tables_that_are_swapped_and_swapped_back() {
    let source = in_use().await;
    let swap = |one, other| {
        format!(
            "ALTER TABLE {one} RENAME TO passing; ALTER TABLE {other} RENAME TO {one}; ALTER TABLE passing RENAME TO {other}"
        )
    };
    // The other one is older: it lacks rows.
    let copy = "CREATE TABLE copy (LIKE events INCLUDING ALL EXCLUDING IDENTITY);
        ALTER TABLE copy ALTER id SET DEFAULT nextval('events_id_seq');
        INSERT INTO copy SELECT * FROM events WHERE id <= 12";
    source.db.batch(copy).await;
    source.db.batch(&swap("events", "copy")).await;
    source.polls().await;
    source.insert(2).await;
    source.counts(5).await;
    source.db.batch(&swap("events", "copy")).await;
    source.polls().await;
    source.db.batch("UPDATE events SET done = true").await;
    source.counts(15).await;
    source.insert(2).await;
    source.counts(17).await;
}

#[tokio::test]
async fn a_definition_that_changes_while_a_migration_runs() {
    let mut source = in_use().await;
    source.stop().await;
    source.insert(2).await;
    let writer = source.db.client().await;
    let sql = "BEGIN; ALTER TABLE events RENAME kind TO sort; ALTER TABLE events ALTER id TYPE bigint";
    writer.batch_execute(sql).await.expect(sql);
    source.define("events", "SELECT id, done, at, sort AS kind FROM events", TOML);
    source.start().await;
    source.poll_waits().await;
    writer.batch_execute("COMMIT").await.expect("a commit");
    source.counts(5).await;
    source.db.batch("UPDATE events SET done = true").await;
    source.counts(15).await;
}

#[tokio::test]
async fn a_metric_that_is_added_while_a_migration_runs() {
    let mut source = in_use().await;
    source.stop().await;
    source.insert(2).await;
    let writer = source.db.client().await;
    writer.batch_execute("BEGIN; ALTER TABLE events ALTER id TYPE bigint").await.expect("a migration");
    let more = "[[counter]]\nname = \"more_total\"\nhelp = \"The same once more.\"\n";
    source.define("events", crate::support::source::SELECT, &[TOML, more].concat());
    source.start().await;
    source.poll_waits().await;
    writer.batch_execute("COMMIT").await.expect("a commit");
    source.counts(5).await;
    source.db.batch("UPDATE events SET done = true").await;
    let metrics = source.counts(15).await;
    assert_eq!(metrics.sum("more_total", &[]), 15.0);
}

#[tokio::test]
async fn times_that_move_by_some_hours_with_their_type() {
    let mut source = Source::new(&[&EVENTS.replace("timestamptz", "timestamp")]).await;
    source
        .db
        .batch("INSERT INTO events (at) SELECT now() - i * interval '7.3 seconds' FROM generate_series(1, 300) AS i")
        .await;
    source.start().await;
    source.counts(300).await;
    source.db.batch("ALTER TABLE events ALTER at TYPE timestamptz USING at AT TIME ZONE 'America/New_York'").await;
    source.counts(300).await;
    source.insert(10).await;
    source.counts(310).await;
    source.db.batch("ALTER TABLE events ALTER at TYPE timestamp USING at + interval '8 hours'").await;
    source.insert(10).await;
    source.counts(320).await;
}

#[tokio::test]
async fn a_table_with_other_rows_takes_the_place_of_one() {
    let source = Source::counted(30).await;
    source.db.batch("CREATE TABLE other (LIKE events INCLUDING ALL)").await;
    source.db.batch("INSERT INTO other (done) SELECT true FROM generate_series(1, 20)").await;
    source.db.batch("ALTER TABLE events RENAME TO old; ALTER TABLE other RENAME TO events").await;
    source.counts(50).await;
    source.insert(5).await;
    source.counts(55).await;
}

#[tokio::test]
async fn a_table_swapped_for_another_one_and_back() {
    for rows in [20, 2_000] {
        let source = Source::counted(rows).await;
        source.db.batch("CREATE TABLE other (LIKE events INCLUDING ALL)").await;
        source.db.batch(&format!("INSERT INTO other (id) SELECT generate_series(1, {rows} + 5)")).await;
        source.db.batch("ALTER TABLE events RENAME TO mine; ALTER TABLE other RENAME TO events").await;
        source.counts(2 * rows + 5).await;
        source.db.batch("ALTER TABLE events RENAME TO other; ALTER TABLE mine RENAME TO events").await;
        source.polls().await;
        source.counts(2 * rows + 5).await;
        source.insert(10).await;
        source.counts(2 * rows + 15).await;
    }
}
