//! Ids that no row has, and rows that come under them late.

use crate::support::source::{EVENTS, Source};

/// Ids as large as one likes.
fn wide() -> String {
    EVENTS.replace("id int", "id bigint")
}

/// Rewrites the table after ids were burnt, and lets the sequence go on behind the largest one.
async fn rewritten_with_burnt_ids(rewrite: &str) {
    let source = Source::counted(1_000).await;
    source.db.batch("SELECT nextval('events_id_seq') FROM generate_series(1, 3)").await;
    source.polls().await;
    source.db.batch(rewrite).await;
    source.db.batch("ALTER SEQUENCE events_id_seq RESTART WITH 1001").await;
    source.counts(1_000).await;
    source.insert(5).await;
    source.counts(1_005).await;
}

#[tokio::test]
async fn ids_handed_out_again_after_a_rewrite() {
    rewritten_with_burnt_ids("VACUUM FULL events").await;
    rewritten_with_burnt_ids("CLUSTER events USING events_pkey").await;
    rewritten_with_burnt_ids("ALTER TABLE events ALTER id TYPE bigint").await;
}

#[tokio::test]
async fn a_transaction_that_is_open_over_many_burnt_ids() {
    let mut source = Source::new(&[&wide()]).await;
    source.start().await;
    let late = source.db.client().await;
    late.batch_execute("BEGIN; INSERT INTO events DEFAULT VALUES").await.expect("a row");
    for part in 0..25 {
        let rows =
            format!("INSERT INTO events (id) SELECT {part}000 * 2 + 2 * i + 2 FROM generate_series(1, 1000) AS i");
        source.db.batch(&rows).await;
        source.exporter().wait_polls(1).await;
    }
    let metrics = source.counts(25_000).await;
    assert!(metrics.sum("rsolv_exporter_gaps", &[]) > 24_900.0);
    late.batch_execute("COMMIT").await.expect("a commit");
    source.counts(25_001).await;
}

#[tokio::test]
async fn a_first_read_over_many_burnt_ids() {
    let mut source = Source::new(&[&wide()]).await;
    let late = source.db.client().await;
    late.batch_execute("BEGIN; INSERT INTO events DEFAULT VALUES; INSERT INTO events (id) VALUES (20001)")
        .await
        .unwrap();
    source.db.batch("INSERT INTO events (id) SELECT 2 * i FROM generate_series(1, 15000) AS i").await;
    source.start().await;
    source.counts(15_000).await;
    source.stop().await;
    source.start().await;
    late.batch_execute("COMMIT").await.expect("a commit");
    let metrics = source.counts(15_002).await;
    assert_eq!(metrics.sum("rsolv_exporter_gaps_dropped_total", &[]), 0.0);
}

/// Ids of some kind, one below them that commits late, and one that was drawn ahead.
async fn spread(ids: &str, rows: u32, late: &str, ahead: &str) {
    let mut source = Source::new(&[&wide()]).await;
    let writer = source.db.client().await;
    writer.batch_execute(&format!("BEGIN; INSERT INTO events (id) VALUES ({late})")).await.expect("a row");
    source
        .db
        .batch(&format!("INSERT INTO events (id, done) SELECT {ids}, i <> 7 FROM generate_series(1, {rows}) AS i"))
        .await;
    source.start().await;
    source.counts(rows - 1).await;
    writer.batch_execute("COMMIT").await.expect("a commit");
    source.counts(rows).await;
    source
        .db
        .batch(&format!("INSERT INTO events (id) VALUES ({ahead}); UPDATE events SET done = true WHERE NOT done"))
        .await;
    let metrics = source.counts(rows + 2).await;
    assert_eq!(metrics.sum("rsolv_exporter_gaps_dropped_total", &[]), 0.0);
}

#[tokio::test]
async fn ids_that_are_far_apart() {
    spread("32768 * i::bigint", 20_000, "32768 * 5 + 1", "32768::bigint * 12345 + 17").await;
}

#[tokio::test]
async fn snowflakes() {
    let flake = |i: &str| format!("((1732560000000 + 37 * {i}::bigint) << 22) + 4096 * ({i} % 5)");
    let (late, ahead) = (format!("{} + 1", flake("3")), format!("{} + 7", flake("29000")));
    spread(&flake("i"), 30_000, &late, &ahead).await;
}

#[tokio::test]
async fn sessions_that_hold_ids_drawn_ahead() {
    let mut source = Source::new(&[EVENTS, "ALTER SEQUENCE events_id_seq CACHE 50"]).await;
    let (idle, other) = (source.db.client().await, source.db.client().await);
    let insert = "INSERT INTO events DEFAULT VALUES";
    for client in [&idle, &other] {
        client.batch_execute(insert).await.expect("a row");
    }
    source.start().await;
    source.counts(2).await;
    for _ in 0..60 {
        other.batch_execute(insert).await.expect("a row");
    }
    source.counts(62).await;
    for _ in 0..49 {
        idle.batch_execute(insert).await.expect("a row");
    }
    source.counts(111).await;
}

#[tokio::test]
async fn a_sequence_in_steps() {
    let mut source = Source::new(&[EVENTS, "ALTER SEQUENCE events_id_seq INCREMENT BY 2"]).await;
    let late = source.db.client().await;
    late.batch_execute("BEGIN; INSERT INTO events DEFAULT VALUES").await.expect("a row");
    source.insert(500).await;
    source.start().await;
    source.counts(500).await;
    late.batch_execute("COMMIT").await.expect("a commit");
    source.insert(500).await;
    source.counts(1_001).await;
    // The other half of two servers that share the ids.
    source.db.batch("INSERT INTO events (id) SELECT 2 * i FROM generate_series(1, 400) AS i").await;
    source.counts(1_401).await;
}

#[tokio::test]
async fn upserts_that_burn_ids_while_a_transaction_is_open() {
    let mut source = Source::new(&[&wide(), "ALTER TABLE events ADD key int UNIQUE"]).await;
    let late = source.db.client().await;
    source.start().await;
    late.batch_execute("BEGIN; INSERT INTO events (key) VALUES (-1)").await.expect("a row");
    // Every other one conflicts, and burns the id between two that are used.
    for part in 0..300 {
        let rows = format!(
            "INSERT INTO events (key) SELECT CASE WHEN i % 2 = 0 THEN {part} * 100 + i ELSE 2 END FROM generate_series(1, 100) AS i \
             ON CONFLICT (key) DO UPDATE SET kind = 'a'"
        );
        // One statement may not touch one row twice.
        let rows = rows.replace("ELSE 2 END", "ELSE i - 99 END");
        source.db.batch(&rows).await;
        if part % 20 == 0 {
            source.exporter().wait_polls(1).await;
        }
    }
    let rows: u32 = source.db.value("SELECT count(*) FROM events").await.parse().expect("a number");
    source.counts(rows).await;
    late.batch_execute("COMMIT").await.expect("a commit");
    source.counts(rows + 1).await;
}
