//! What comes within the window, behind it, and all at once.

use crate::support::exporter::run;
use crate::support::source::Source;

const TABLE: &str =
    "CREATE TABLE events (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), done boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT now(), value int NOT NULL DEFAULT 1); CREATE INDEX ON events (created_at)";
const SELECT: &str = "SELECT id, done, created_at, created_at AS at, 100 / value AS value FROM events";
const TOML: &str = "order = \"created_at\"\nlate = \"1m\"\nlabels = []
[[counter]]\nname = \"events_total\"\nhelp = \"Events.\"
[[counter]]\nname = \"events_value_total\"\nhelp = \"Values.\"\nsum = \"value\"
[[gauge]]\nname = \"events_open\"\nhelp = \"Open.\"\nof = \"open\"";

async fn of(rows: &str) -> Source<'static> {
    let source = Source::new(&[TABLE, rows]).await;
    source.define("events", SELECT, TOML);
    source
}

#[tokio::test]
async fn a_long_history_with_one_time_is_read_in_parts_while_rows_come() {
    let mut source = of("INSERT INTO events (done) SELECT i % 50 <> 0 FROM generate_series(1, 45000) AS i").await;
    let late = source.db.client().await;
    late.batch_execute("BEGIN; INSERT INTO events SELECT FROM generate_series(1, 100)").await.unwrap();
    source.start().await;
    source.counts(44_100).await;
    late.batch_execute("COMMIT").await.unwrap();
    let metrics = source.counts(44_200).await;
    assert_eq!(metrics.sum("events_open", &[]), 900.0);
    source.db.batch("UPDATE events SET done = true").await;
    source.kill().await;
    source.start().await;
    let metrics = source.counts(45_100).await;
    assert_eq!(metrics.sum("rsolv_exporter_late_rows_total", &[]), 0.0);
}

#[tokio::test]
async fn what_comes_too_late_is_found_counted_and_said() {
    let mut source =
        of("INSERT INTO events (created_at) SELECT now() - i * interval '1 minute' FROM generate_series(0, 99) AS i")
            .await;
    source.start().await;
    source.counts(100).await;
    source
        .db
        .batch("INSERT INTO events (created_at) SELECT now() - interval '30 minutes' FROM generate_series(1, 7)")
        .await;
    let metrics = source.counts(107).await;
    assert_eq!(metrics.sum("rsolv_exporter_late_rows_total", &[]), 7.0);
    assert!(source.exporter().log().contains("counted late"), "{}", source.exporter().log());
    // Rows that were counted and come back are known.
    source.db.batch("CREATE TABLE archive AS SELECT * FROM events; DELETE FROM events").await;
    source.polls().await;
    source.db.batch("INSERT INTO events SELECT * FROM archive").await;
    source.counts(107).await;
}

#[tokio::test]
async fn a_time_in_the_future_hides_nothing() {
    let mut source =
        of("INSERT INTO events (created_at) VALUES ('infinity'), (now() + interval '2 years'), ('-infinity')").await;
    source.start().await;
    source.counts(3).await;
    source.db.batch("INSERT INTO events DEFAULT VALUES").await;
    let metrics = source.counts(4).await;
    assert_eq!(metrics.sum("rsolv_exporter_late_rows_total", &[]), 0.0);
}

#[tokio::test]
async fn open_rows_are_older_than_the_window_vanish_and_come_back() {
    let mut source =
        of("INSERT INTO events (done, created_at) SELECT false, now() - interval '1 year' FROM generate_series(1, 10)")
            .await;
    source.start().await;
    let open = |n: f64| move |metrics: &crate::support::metrics::Metrics| metrics.sum("events_open", &[]) == n;
    source.exporter().wait_for("ten open rows", open(10.0)).await;
    source.db.batch("CREATE TABLE hidden AS SELECT * FROM events; DELETE FROM events").await;
    source.exporter().wait_for("none", open(0.0)).await;
    source.stop().await;
    source.start().await;
    source.db.batch("INSERT INTO events SELECT id, true, created_at FROM hidden LIMIT 4").await;
    source.counts(4).await;
    source
        .db
        .batch("INSERT INTO events SELECT h.* FROM hidden AS h LEFT JOIN events AS e USING (id) WHERE e.id IS NULL")
        .await;
    source.exporter().wait_for("the others", open(6.0)).await;
}

#[tokio::test]
async fn a_row_on_which_the_select_raises_hides_no_other() {
    let mut source = of("INSERT INTO events (value) SELECT i % 10 FROM generate_series(1, 30) AS i").await;
    source.start().await;
    let metrics = source.counts(27).await;
    assert_eq!(metrics.sum("rsolv_exporter_failed_rows_total", &[]), 3.0);
    source.db.batch("INSERT INTO events DEFAULT VALUES").await;
    source.counts(28).await;
    // Those that can be read at last are counted after a restart at once, and else in some minutes.
    source.db.batch("UPDATE events SET value = 5 WHERE value = 0").await;
    source.stop().await;
    source.start().await;
    source.counts(31).await;
}

#[tokio::test]
async fn a_rewritten_table_and_one_that_is_emptied_are_no_others() {
    let mut source = of("INSERT INTO events SELECT FROM generate_series(1, 20)").await;
    source.db.batch("INSERT INTO events (done) VALUES (false)").await;
    source.start().await;
    source.counts(20).await;
    source.db.batch("ALTER TABLE events ALTER COLUMN value TYPE bigint").await;
    source.db.batch("VACUUM FULL events").await;
    source.counts(20).await;
    source.db.batch("TRUNCATE events; INSERT INTO events SELECT FROM generate_series(1, 5)").await;
    source.counts(25).await;
}

#[tokio::test]
async fn a_steady_poll_reads_the_window_and_a_piece_below_it_whatever_the_history() {
    let history =
        "INSERT INTO events (created_at) SELECT now() - i * interval '1 s' FROM generate_series(120, 60000) AS i";
    let mut source = of(history).await;
    source.db.batch("INSERT INTO events SELECT FROM generate_series(1, 50); ANALYZE events").await;
    source.start().await;
    source.counts(59_931).await;
    // The server tells some time after a statement what it has read: the keys and the rows of the history, at first.
    let by_index = "(SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'events')";
    let whole = "(SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'events')";
    source.db.wait_until(&format!("{by_index} >= 2 * 59931")).await;
    let number = async |sql| source.db.value(sql).await.parse::<f64>().unwrap();
    let polls = |metrics: &crate::support::metrics::Metrics| metrics.sum("rsolv_exporter_polls_total", &[]);
    let (begun, before) = (polls(&source.exporter().metrics().await), [number(by_index).await, number(whole).await]);
    source.db.wait_until(&format!("{by_index} > {} + 20000", before[0])).await;
    let ended = polls(&source.exporter().wait_polls(20).await);
    let each = (number(by_index).await - before[0]) / (ended - begun);
    assert!(each < 1_500.0, "{each} entries of indexes a poll");
    assert_eq!(number(whole).await, before[1], "the table is read as a whole");
}

#[tokio::test]
async fn every_command_answers() {
    let mut source = of("INSERT INTO events (value) SELECT 1 + i % 4 FROM generate_series(1, 3000) AS i").await;
    source.define(
        "events",
        SELECT,
        &format!(
            "{TOML}\n[[histogram]]\nname = \"events_worth\"\nhelp = \"V.\"\nvalue = \"value\"\nbuckets = [30, 60]"
        ),
    );
    source.start().await;
    source.counts(3_000).await;
    let (url, queries) = (source.db.url(), source.queries());
    let command = async |arguments: &[&str]| {
        let output = run(&[arguments, &["--database.url", &url, "--queries.dir", &queries]].concat()).await;
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {text}");
        text
    };
    assert!(command(&["check"]).await.contains("All good"));
    assert!(command(&["once"]).await.contains("events_total 3000"));
    let rows = command(&["rows", "events_value_total", "--limit", "2500", "--format", "csv"]).await;
    assert_eq!(rows.lines().filter(|line| line.contains("-") && line.contains("T")).count(), 2_500, "{rows}");
    let id = source.db.value("SELECT id FROM events ORDER BY id LIMIT 1").await;
    assert!(command(&["rows", "--id", &id]).await.contains(&id));
    assert!(command(&["rows", "events_total", "--id", &id, "--format", "json"]).await.contains(&format!("\"{id}\"")));
    assert!(command(&["rows", "--id", "4711"]).await.contains("no row has id 4711"));
    assert!(command(&["buckets", "events_worth"]).await.contains("3000 values"));
    let number = command(&["sql", "events_total"]).await;
    assert_eq!(source.db.client().await.query_one(&number, &[]).await.unwrap().get::<_, i64>(0), 3_000);
    let poll = command(&["sql"]).await;
    let rows = source.db.client().await.simple_query(&poll).await.unwrap();
    assert!(rows.len() > 1, "the statement of a poll can be pasted");
    let history = command(&["backfill", "--from", "1h", "--to", "now"]).await;
    assert!(history.contains("events_total 3000"), "{history}");
}
