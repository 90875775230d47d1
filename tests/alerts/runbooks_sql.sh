#!/usr/bin/env bash
# Runs every SQL block of the runbooks in psql, against a throwaway PostgreSQL with the platform's schema.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
schema=${PLATFORM_SCHEMA:-$root/tests/support/schema.sql}

bin=$(for dir in "${POSTGRES_BIN:-}" "$(dirname "$(command -v initdb || echo /)")" /usr/lib/postgresql/*/bin; do
    if [ -x "$dir/initdb" ] && [ -x "$dir/pg_ctl" ]; then echo "$dir"; fi
done | tail -n 1)
if [ -z "$bin" ]; then
    echo "no PostgreSQL server found: install postgresql (Debian package), or set POSTGRES_BIN" >&2
    exit 1
fi

work=$(mktemp -d)
as=()
# The server refuses to run as root.
if [ "$(id -u)" = 0 ]; then
    chown postgres "$work"
    as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
fi
# shellcheck disable=SC2317,SC2329 # called by the trap
stop() {
    "${as[@]}" "$bin/pg_ctl" -D "$work/data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap stop EXIT
cd "$work"
"${as[@]}" "$bin/initdb" -D "$work/data" -U postgres -A trust -E UTF8 --no-locale --no-sync >/dev/null
"${as[@]}" "$bin/pg_ctl" -D "$work/data" -w -l "$work/log" \
    -o "-c listen_addresses='' -c unix_socket_directories='$work' -c fsync=off" start >/dev/null

psql=(psql -X -q -v ON_ERROR_STOP=1 -h "$work" -U postgres -d postgres)
"${psql[@]}" -f "$schema"
"${psql[@]}" >/dev/null <<'SQL'
INSERT INTO repositories (forge_type, namespace, name, full_path, first_seen_at, last_activity_at, inserted_at, updated_at)
VALUES ('github', 'o', 'r', 'o/r', now(), now(), now(), now());
INSERT INTO validation_executions (repository_id, issue_number, commit_sha, status, data, started_at, completed_at, error_message, inserted_at, updated_at)
SELECT 1, n, 'c', (ARRAY['completed', 'failed', 'running'])[1 + n % 3]::execution_status, '{"language": "go", "tests_generated": 3}',
       (now() AT TIME ZONE 'utc') - interval '10 minutes', (now() AT TIME ZONE 'utc') - interval '1 minute',
       CASE WHEN n % 3 = 1 THEN 'timed out' END, now(), now()
FROM generate_series(1, 9) n;
INSERT INTO mitigation_executions (repository_id, issue_number, commit_sha, status, data, started_at, completed_at, inserted_at, updated_at)
SELECT 1, n, 'c', 'completed', '{"trust_score": "85"}', now(), (now() AT TIME ZONE 'utc') - interval '1 minute', now(), now()
FROM generate_series(1, 3) n;
SQL

status=0
count=0
for page in "$root"/alerts/runbooks/*.md; do
    awk -v out="$work/$(basename "$page" .md)" '
        /^```sql$/ { inside = 1; file = out "." ++n ".sql"; next }
        /^```$/ { inside = 0 }
        inside { print > file }
    ' "$page"
done
for file in "$work"/*.sql; do
    count=$((count + 1))
    if ! "${psql[@]}" -f "$file" >/dev/null; then
        echo "in $(basename "$file")"
        status=1
    fi
done
echo "$count statements"
exit "$status"
