//! The rows that everyone works on.

use crate::support::database::Database;

/// What the statuses, languages and payloads of the rows are.
const COLUMNS: &str =
    "repository_id, issue_number, commit_sha, status, data, started_at, completed_at, inserted_at, updated_at";

/// Writes `rows` finished validations and half as many mitigations, spread over `repositories`.
///
/// Indexes beside the primary keys are dropped: nobody here reads them, and writing them would take longer than all else.
pub async fn fill(db: &Database<'_>, rows: u64, repositories: u64) {
    for table in ["validation_executions", "mitigation_executions"] {
        let drop = format!(
            "SELECT string_agg(format('DROP INDEX %s', indexrelid::regclass), '; ') FROM pg_index
             WHERE indrelid = '{table}'::regclass AND NOT indisprimary"
        );
        db.batch(&db.value(&drop).await).await;
    }
    db.batch(&format!(
        "INSERT INTO repositories (forge_type, namespace, name, full_path, first_seen_at, last_activity_at, inserted_at, updated_at)
         SELECT 'github', 'acme', i::text, 'acme/service-' || i, now(), now(), now(), now()
         FROM generate_series(1, {repositories}) AS i"
    ))
    .await;
    validations(db, rows, repositories).await;
    db.batch(&format!(
        "INSERT INTO mitigation_executions ({COLUMNS})
         SELECT 1 + i % {repositories}, i, md5(i::text),
           (CASE WHEN i % 20 = 0 THEN 'failed' ELSE 'completed' END)::execution_status,
           jsonb_build_object('language', 'javascript', 'framework', 'express', 'trust_score', i % 101,
             'pr_url', 'https://example.com/pull/' || i, 'pr_number', i, 'files_changed', i % 7),
           t - make_interval(secs => i % 700), t, t, t
         FROM generate_series(1, {}) AS i, timezone('UTC', now()) AS t",
        rows / 2
    ))
    .await;
    db.batch("VACUUM ANALYZE").await;
}

/// Adds finished validations.
pub async fn validations(db: &Database<'_>, rows: u64, repositories: u64) {
    db.batch(&insert_validations(rows, repositories)).await;
}

/// The statement that adds finished validations.
pub fn insert_validations(rows: u64, repositories: u64) -> String {
    format!(
        "INSERT INTO validation_executions ({COLUMNS})
         SELECT 1 + i % {repositories}, i, md5(i::text),
           (CASE WHEN i % 20 = 0 THEN 'failed' ELSE 'completed' END)::execution_status,
           jsonb_build_object('language', 'javascript', 'framework', 'express', 'validated', true,
             'tests_generated', i % 9, 'tests_passed', i % 5, 'tests_failed', i % 4,
             'vulnerabilities', jsonb_build_array('xss', 'sqli')),
           t - make_interval(secs => i % 400), t, t, t
         FROM generate_series(1, {rows}) AS i, timezone('UTC', now()) AS t"
    )
}
