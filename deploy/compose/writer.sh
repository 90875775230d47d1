#!/bin/bash
# Writes sample executions for ever, about one every two seconds: mostly completed at once, some that
# run for a while first, some that fail or time out, with the spellings old and new clients use.
set -euo pipefail

execute() { psql -X -q -v ON_ERROR_STOP=1; }

execute <<'SQL'
INSERT INTO repositories (forge_type, namespace, name, full_path, first_seen_at, last_activity_at,
                          inserted_at, updated_at)
SELECT 'github', 'example', name, 'example/' || name, t, t, t, t
FROM unnest(ARRAY['shop', 'billing', 'website', 'api', 'mobile']) name,
     (SELECT now() AT TIME ZONE 'UTC' AS t) moment
ON CONFLICT (forge_type, namespace, name) DO NOTHING;
SQL

while true; do
  execute <<'SQL'
BEGIN;
SELECT set_config('TimeZone', 'UTC', true) \g /dev/null

-- What was left running finishes, sooner or later.
UPDATE validation_executions
SET status = CASE WHEN random() < 0.9 THEN 'completed' ELSE 'failed' END::execution_status,
    completed_at = localtimestamp, updated_at = localtimestamp
WHERE status = 'running' AND random() < 0.2;

WITH chosen AS (
  SELECT r.id, k.*, random() AS fate, 2 + random() * 90 AS seconds, (1 + random() * 6)::int AS tests
  FROM (SELECT id FROM repositories WHERE namespace = 'example' ORDER BY random() LIMIT 1) r,
       (SELECT * FROM (VALUES ('javascript', 'express'), ('javascript', 'react'), ('python', 'django'),
                              ('ruby', 'rails'), ('elixir', 'phoenix'), ('go', NULL)) v (language, framework)
        ORDER BY random() LIMIT 1) k
), row AS (
  SELECT *, least(tests, floor(tests * (0.6 + random() * 0.5)))::int AS passed,
         CASE WHEN fate < 0.80 THEN 'completed' WHEN fate < 0.92 THEN 'failed' ELSE 'running' END AS status
  FROM chosen
)
INSERT INTO validation_executions (repository_id, issue_number, commit_sha, status, validated,
                                   vulnerabilities_found, data, started_at, completed_at, error_message,
                                   inserted_at, updated_at)
SELECT id, (random() * 1000)::int, md5(random()::text), status::execution_status, status = 'completed',
       (random() * 3)::int,
       CASE WHEN random() < 0.8
            THEN jsonb_build_object('language', language, 'framework', framework, 'tests_generated', tests,
                                    'tests_passed', passed, 'tests_failed', tests - passed)
            ELSE jsonb_build_object('language', language, 'framework', framework, 'testsGenerated', tests,
                                    'testsPassed', passed::text, 'testsFailed', tests - passed) END,
       localtimestamp - seconds * interval '1 second',
       CASE WHEN status <> 'running' THEN localtimestamp END,
       CASE WHEN status = 'failed' AND random() < 0.3 THEN 'worker timed out' END,
       localtimestamp, localtimestamp
FROM row;

-- Two of three validations lead to a mitigation.
WITH chosen AS (
  SELECT r.id, k.*, least(100, greatest(0, 82 + (random() - 0.5) * 60)) AS trust, random() AS fate
  FROM (SELECT id FROM repositories WHERE namespace = 'example' ORDER BY random() LIMIT 1) r,
       (SELECT * FROM (VALUES ('javascript', 'express'), ('python', 'django'), ('ruby', 'rails'),
                              ('elixir', 'phoenix')) v (language, framework)
        ORDER BY random() LIMIT 1) k
  WHERE random() < 0.67
)
INSERT INTO mitigation_executions (repository_id, issue_number, commit_sha, status, pr_url, pr_number,
                                   files_changed, data, started_at, completed_at, error_message,
                                   inserted_at, updated_at)
SELECT id, (random() * 1000)::int, md5(random()::text),
       CASE WHEN fate < 0.9 THEN 'completed' ELSE 'failed' END::execution_status,
       CASE WHEN fate < 0.8 THEN 'https://example.com/pull/' || (random() * 1000)::int END,
       NULL, (1 + random() * 5)::int,
       jsonb_build_object('language', language, 'framework', framework, 'trust_score', round(trust::numeric, 1)),
       localtimestamp - (10 + random() * 200) * interval '1 second', localtimestamp,
       CASE WHEN fate >= 0.9 THEN 'tests did not pass' END,
       localtimestamp, localtimestamp
FROM chosen;
COMMIT;
SQL
  sleep 2
done
