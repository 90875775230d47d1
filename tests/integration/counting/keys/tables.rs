//! Tables of kinds that applications have, each with its definition.

/// A table, what writers do to it, and how it is counted.
pub struct Case {
    pub name: &'static str,
    /// Makes the table `events`.
    pub schema: &'static str,
    /// Inserts a row, which has ended or not.
    pub insert: &'static str,
    /// Ends a row that has not, if there is one that nobody else ends.
    pub finish: &'static str,
    /// The SELECT of the definition.
    pub select: &'static str,
    /// The first lines of its TOML.
    pub key: &'static str,
    /// Whether a row has ended, and its key as text, as a trigger sees it.
    pub ended: &'static str,
    pub key_of: &'static str,
    /// True if rows that have not ended are counted in a gauge.
    pub shows_open: bool,
}

const FINISH: &str = "UPDATE events SET state = 'failed', value = 3 WHERE ctid = (
  SELECT ctid FROM events WHERE state = 'open' ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED)";

/// State, kind and value of a new row.
const NEW: &str = "(ARRAY['open','done','done'])[1 + floor(random() * 3)::int], \
                   'kind ' || floor(random() * 3)::int, floor(random() * 5)::int";

/// `SQL` with the values of a new row in place of `…`.
pub fn filled(sql: &str) -> String {
    sql.replace('…', NEW)
}

pub const CASES: [Case; 9] = [
    Case {
        name: "uuid of version 4 with a time",
        schema: "CREATE TABLE events (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), state text, kind text, value int,
                   created_at timestamptz NOT NULL DEFAULT now(), \"Key\" int);
                 CREATE INDEX ON events (created_at, id)",
        insert: "INSERT INTO events (state, kind, value) VALUES (…)",
        finish: FINISH,
        select: "SELECT id, state <> 'open' AS done, now() AS at, kind, state, value, created_at FROM events",
        key: "key = \"id\"\norder = \"created_at\"\nlate = \"2s\"",
        ended: "NEW.state <> 'open'",
        key_of: "NEW.id::text",
        shows_open: true,
    },
    Case {
        name: "uuid of version 7",
        schema: "CREATE FUNCTION uuid_7() RETURNS uuid LANGUAGE sql AS $$
                   SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7'
                     || substr(md5(random()::text), 1, 3) || '8' || substr(md5(random()::text), 1, 15))::uuid $$;
                 CREATE TABLE events (id uuid PRIMARY KEY DEFAULT uuid_7(), state text, kind text, value int)",
        insert: "INSERT INTO events (state, kind, value) VALUES (…)",
        finish: FINISH,
        select: "SELECT e.id AS event, e.state <> 'open' AS done, now() AS at, e.kind, e.state, e.value FROM events AS e",
        key: "key = \"event\"\norder = \"event\"\nlate = \"2s\"",
        ended: "NEW.state <> 'open'",
        key_of: "NEW.id::text",
        shows_open: true,
    },
    Case {
        name: "composite key",
        schema: "CREATE TABLE events (tenant text, number int, state text, kind text, value int,
                   \"at\" timestamp NOT NULL DEFAULT timezone('UTC', now()), PRIMARY KEY (tenant, number));
                 CREATE INDEX ON events (\"at\");
                 CREATE SEQUENCE numbers",
        insert: "INSERT INTO events (tenant, number, state, kind, value)
                 VALUES ('it''s ' || floor(random() * 3), nextval('numbers'), …)",
        finish: FINISH,
        select: "SELECT tenant, number, state <> 'open' AS done, \"at\", kind, state, value FROM events",
        key: "key = [\"tenant\", \"number\"]\norder = \"at\"\nlate = \"2s\"",
        ended: "NEW.state <> 'open'",
        key_of: "NEW.tenant || '/' || NEW.number",
        shows_open: true,
    },
    Case {
        name: "partitions, in whose key their own column is",
        schema: "CREATE TABLE events (id uuid DEFAULT gen_random_uuid(), partition int, state text, kind text, value int,
                   created_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (id, partition))
                   PARTITION BY LIST (partition);
                 CREATE TABLE events_0 PARTITION OF events FOR VALUES IN (0);
                 CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
                 CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (2);
                 CREATE INDEX ON events (created_at, id, partition)",
        insert: "INSERT INTO events (partition, state, kind, value) VALUES (floor(random() * 3), …)",
        finish: "UPDATE events SET state = 'failed', value = 3 WHERE (tableoid, ctid) = (
                   SELECT tableoid, ctid FROM events WHERE state = 'open' ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED)",
        select: "SELECT id, partition, state <> 'open' AS done, now() AS at, kind, state, value, created_at FROM events",
        key: "key = [\"id\", \"partition\"]\norder = \"created_at\"\nlate = \"2s\"",
        ended: "NEW.state <> 'open'",
        key_of: "NEW.id || '/' || NEW.partition",
        shows_open: true,
    },
    Case {
        name: "a row for each attempt",
        // What was deleted does not come again under its key.
        schema: "CREATE SEQUENCE attempts;
                 CREATE TABLE events (job uuid DEFAULT gen_random_uuid(), attempt int DEFAULT nextval('attempts'), state text,
                   kind text, value int, started_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (job, attempt));
                 CREATE INDEX ON events (started_at, job, attempt)",
        insert: "INSERT INTO events (job, state, kind, value)
                 SELECT coalesce(last.job, gen_random_uuid()), …
                 FROM (SELECT) AS one LEFT JOIN (SELECT job FROM events ORDER BY random() LIMIT 1) AS last ON random() < 0.5",
        finish: FINISH,
        select: "SELECT job, attempt, state <> 'open' AS done, started_at AS at, kind, state, value FROM events",
        key: "key = [\"job\", \"attempt\"]\norder = \"at\"\nlate = \"2s\"",
        ended: "NEW.state <> 'open'",
        key_of: "NEW.job || '/' || NEW.attempt",
        shows_open: true,
    },
    Case {
        name: "a row that ends again",
        schema: "CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state text, kind text, value int,
                   finished_at timestamptz);
                 CREATE INDEX ON events (finished_at, id)",
        insert: "INSERT INTO events (state, kind, value, finished_at)
                 SELECT state, kind, value, CASE WHEN state <> 'open' THEN clock_timestamp() END
                 FROM (SELECT …) AS new (state, kind, value)",
        finish: "UPDATE events SET state = 'failed', value = 3, finished_at = clock_timestamp() WHERE id = (
                   SELECT id FROM events WHERE state = 'open' ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED)",
        select: "SELECT id, state <> 'open' AS done, finished_at AS at, kind, state, value FROM events",
        key: "key = [\"id\", \"at\"]\norder = \"at\"\nlate = \"2s\"",
        ended: "NEW.state <> 'open'",
        key_of: "NEW.id || '/' || NEW.finished_at",
        shows_open: false,
    },
    Case {
        name: "snowflakes, some of them back-dated",
        schema: "CREATE SEQUENCE numbers;
                 CREATE FUNCTION snowflake() RETURNS bigint LANGUAGE sql AS $$
                   SELECT (((extract(epoch FROM clock_timestamp()) * 1000)::bigint
                     - CASE WHEN random() < 0.3 THEN (random() * 1000)::bigint ELSE 0 END) << 16) + nextval('numbers') % 65536 $$;
                 CREATE TABLE events (id bigint PRIMARY KEY DEFAULT snowflake(), state text, kind text, value int)",
        insert: "INSERT INTO events (state, kind, value) VALUES (…)",
        finish: FINISH,
        select: "SELECT id, state <> 'open' AS done, now() AS at, kind, state, value FROM events",
        key: "order = \"id\"\nlate = 196_608_000",
        ended: "NEW.state <> 'open'",
        key_of: "NEW.id::text",
        shows_open: true,
    },
    Case {
        name: "ULIDs as text",
        schema: "CREATE FUNCTION ulid() RETURNS text LANGUAGE sql AS $$
                   SELECT string_agg(substr('0123456789abcdefghjkmnpqrstvwxyz', 1 + CASE
                     WHEN n < 10 THEN (ms >> (5 * (9 - n))) & 31 ELSE floor(random() * 32)::bigint END::int, 1), '' ORDER BY n)
                   FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms) AS time, generate_series(0, 25) AS n $$;
                 CREATE TABLE events (id text PRIMARY KEY DEFAULT ulid(), state text, kind text, value int)",
        insert: "INSERT INTO events (state, kind, value) VALUES (…)",
        finish: FINISH,
        select: "SELECT id, state <> 'open' AS done, now() AS at, kind, state, value FROM events",
        key: "order = \"id\"\nlate = \"2s\"",
        ended: "NEW.state <> 'open'",
        key_of: "NEW.id",
        shows_open: true,
    },
    Case {
        name: "transaction ids",
        schema: "CREATE TABLE events (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), state text, kind text, value int);
                 ALTER TABLE events ADD COLUMN txid xid8 NOT NULL DEFAULT pg_current_xact_id();
                 CREATE INDEX ON events (txid, id)",
        insert: "INSERT INTO events (state, kind, value) VALUES (…)",
        finish: FINISH,
        select: "SELECT id, state <> 'open' AS done, now() AS at, kind, state, value, txid FROM events",
        key: "xid = \"txid\"",
        ended: "NEW.state <> 'open'",
        key_of: "NEW.id::text",
        shows_open: true,
    },
];

/// What is exported.
pub const TOML: &str = r#"
labels = ["kind"]
[[counter]]
name = "events_total"
help = "Events that have ended."
labels = ["state"]
[[histogram]]
name = "events_value"
help = "Values."
value = "value"
buckets = [1, 3]
"#;

/// And of rows that have not ended.
pub const OPEN: &str = "[[gauge]]\nname = \"events_open\"\nhelp = \"Events that have not ended.\"\nof = \"open\"\n";

/// Notes every ending in the transaction that brings it.
pub fn truth(case: &Case) -> String {
    format!(
        "CREATE TABLE truth (key text PRIMARY KEY, kind text, state text, value int);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF {} THEN
             INSERT INTO truth VALUES ({}, NEW.kind, NEW.state, NEW.value) ON CONFLICT DO NOTHING;
           END IF;
           RETURN NULL;
         END $$;
         CREATE TRIGGER note AFTER INSERT OR UPDATE ON events FOR EACH ROW EXECUTE FUNCTION note()",
        case.ended, case.key_of
    )
}
