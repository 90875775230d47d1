-- One row per validation execution. Paste it into psql to see what the exporter sees.
-- Values are handed on as they stand; the ranges that make them valid are in validation_executions.toml.
SELECT
  e.id,
  e.status NOT IN ('pending', 'running') AS done,
  coalesce(e.completed_at, e.updated_at) AT TIME ZONE 'UTC' AS at,
  coalesce(e.started_at, e.inserted_at) AT TIME ZONE 'UTC' AS since,
  r.full_path AS repo,
  CASE WHEN jsonb_typeof(e.data -> 'language') = 'string' THEN e.data ->> 'language' END AS language,
  CASE WHEN jsonb_typeof(e.data -> 'framework') = 'string' THEN e.data ->> 'framework' END AS framework,
  CASE
    WHEN e.status = 'failed' AND (e.data ->> 'status' = 'timeout' OR e.error_message ~* 'timed?[ -]?out') THEN 'timeout'
    ELSE e.status::text
  END AS status,
  -- For whoever lists rows: no metric has it.
  e.error_message AS error,
  -- The first branch is exact and cannot overflow; the second turns infinite times into infinite durations.
  CASE
    WHEN e.started_at BETWEEN '0001-01-01' AND '9999-12-31' AND e.completed_at BETWEEN '0001-01-01' AND '9999-12-31'
      THEN extract(epoch FROM e.completed_at - e.started_at) * 1000
    ELSE (extract(epoch FROM e.completed_at) - extract(epoch FROM e.started_at)) * 1000
  END AS duration_ms,
  coalesce(nullif(e.data -> 'tests_generated', 'null'), e.data -> 'testsGenerated') AS tests_generated,
  coalesce(nullif(e.data -> 'tests_passed', 'null'), e.data -> 'testsPassed') AS tests_passed,
  coalesce(nullif(e.data -> 'tests_failed', 'null'), e.data -> 'testsFailed') AS tests_failed,
  CASE
    WHEN e.vulnerabilities_found IS NOT NULL THEN to_jsonb(e.vulnerabilities_found)
    WHEN jsonb_typeof(e.data -> 'vulnerabilities') = 'array' THEN to_jsonb(jsonb_array_length(e.data -> 'vulnerabilities'))
    -- No array: missing when null or empty, else shown inside an object, which is no number and so is rejected.
    WHEN e.data -> 'vulnerabilities' NOT IN ('null', '""') THEN jsonb_build_object('not an array', e.data -> 'vulnerabilities')
  END AS vulnerabilities_found
FROM validation_executions AS e
LEFT JOIN repositories AS r ON r.id = e.repository_id
