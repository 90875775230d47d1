//! Rows that are found by the transactions that inserted them.

use crate::support::exporter::run;
use crate::support::source::Source;

const TABLE: &str =
    "CREATE TABLE events (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), done boolean NOT NULL DEFAULT true)";
const COLUMN: &str =
    "ALTER TABLE events ADD COLUMN txid xid8 NOT NULL DEFAULT pg_current_xact_id(); CREATE INDEX ON events (txid)";
const SELECT: &str = "SELECT id, done, now() AS at, txid FROM events";
const TOML: &str = "xid = \"txid\"\nlabels = []
[[counter]]\nname = \"events_total\"\nhelp = \"Events.\"
[[gauge]]\nname = \"events_open\"\nhelp = \"Open.\"\nof = \"open\"";

#[tokio::test]
async fn rows_of_before_are_read_once_and_later_ones_however_long_their_transactions_take() {
    let rows = "INSERT INTO events (done) SELECT i % 100 <> 0 FROM generate_series(1, 30000) AS i";
    let mut source = Source::new(&[TABLE, rows, COLUMN]).await;
    source.define("events", SELECT, TOML);
    let long = source.db.client().await;
    long.batch_execute("BEGIN; INSERT INTO events SELECT FROM generate_series(1, 10)").await.unwrap();
    source.start().await;
    source.counts(29_700).await;
    source.db.batch("INSERT INTO events SELECT FROM generate_series(1, 5)").await;
    source.counts(29_705).await;
    source.stop().await;
    long.batch_execute("SAVEPOINT s; INSERT INTO events DEFAULT VALUES; RELEASE s; COMMIT").await.unwrap();
    source.start().await;
    let metrics = source.counts(29_716).await;
    assert_eq!(metrics.sum("events_open", &[]), 300.0);
    source.db.batch("UPDATE events SET done = true").await;
    source.counts(30_016).await;
    source.kill().await;
    source.start().await;
    source.counts(30_016).await;
}

#[tokio::test]
async fn ids_of_another_server_are_refused_until_they_are_made_this_ones() {
    let mut source = Source::new(&[TABLE, COLUMN, "INSERT INTO events SELECT FROM generate_series(1, 5)"]).await;
    source.define("events", SELECT, TOML);
    source.start().await;
    source.counts(5).await;
    source.db.batch("INSERT INTO events (txid) VALUES ('123456789012')").await;
    let down = |metrics: &crate::support::metrics::Metrics| metrics.sum("rsolv_exporter_source_up", &[]) == 0.0;
    source.exporter().wait_for("the source to be refused", down).await;
    let output = run(&["check", "--database.url", &source.db.url(), "--queries.dir", &source.queries()]).await;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.code() == Some(1) && text.contains("transactions that have not begun here"), "{text}");
    source
        .db
        .batch("UPDATE events SET txid = pg_current_xact_id() WHERE txid >= pg_snapshot_xmax(pg_current_snapshot())")
        .await;
    source.counts(6).await;
}

#[tokio::test]
async fn a_column_that_can_be_null_and_a_table_with_a_subscription_are_refused() {
    let source =
        Source::new(&[TABLE, "ALTER TABLE events ADD COLUMN txid xid8; CREATE INDEX ON events (txid, id)"]).await;
    source.define("events", SELECT, TOML);
    let check = async || {
        let output = run(&["check", "--database.url", &source.db.url(), "--queries.dir", &source.queries()]).await;
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat())
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    let text = check().await;
    assert!(text.contains("\"txid\" can be NULL, and such rows are never counted"), "{text}");
    source.db.batch("ALTER TABLE events ALTER COLUMN txid SET NOT NULL").await;
    let publication =
        "CREATE SUBSCRIPTION s CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false, slot_name = NONE)";
    source.db.batch(publication).await;
    source
        .db
        .batch("INSERT INTO pg_subscription_rel SELECT oid, 'events'::regclass, 'r', NULL FROM pg_subscription WHERE subname = 's'")
        .await;
    let text = check().await;
    source.db.batch("DROP SUBSCRIPTION s").await;
    assert!(text.contains("gets its rows by a subscription"), "{text}");
}
