-- One row per mitigation execution. Paste it into psql to see what the exporter sees.
-- Values are handed on as they stand; the ranges that make them valid are in mitigation_executions.toml.
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
  coalesce(nullif(e.data -> 'trust_score', 'null'), e.data -> 'trustScore') AS trust_score,
  -- A URL or a number says that there is a pull request; neither an empty string nor null does.
  btrim(e.pr_url) <> '' IS TRUE
    OR e.pr_number IS NOT NULL
    OR (jsonb_typeof(pr.url) = 'string' AND btrim(pr.url #>> '{}') <> '') IS TRUE
    OR (jsonb_typeof(pr.number) IN ('number', 'string') AND btrim(pr.number #>> '{}') <> '') IS TRUE AS pr_created
FROM mitigation_executions AS e
LEFT JOIN repositories AS r ON r.id = e.repository_id
CROSS JOIN LATERAL (
  SELECT
    coalesce(nullif(e.data -> 'pr_url', 'null'), e.data -> 'prUrl') AS url,
    coalesce(nullif(e.data -> 'pr_number', 'null'), e.data -> 'prNumber') AS number
) AS pr
