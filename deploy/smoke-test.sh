#!/usr/bin/env bash
# Writes four executions into the platform's database and watches them come out of the exporter, and
# of Prometheus: the whole chain, end to end. Needs bash, psql and curl.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: smoke-test.sh [OPTION]...

Writes two validations and two mitigations into the database, waits until every exporter shows them,
counted exactly once, and says what it saw. The rows belong to a repository of their own
(rsolv-exporter/smoke-test) and carry a mark, so that they can be told from real ones and removed.

  --database-url URL     a role that may INSERT into the three tables, not the exporter's own
                         (default: $DATABASE_URL; without it psql's own PG* variables)
  --schema NAME          the schema of the tables (default: public)
  --metrics-url URL      the exporter's base URL; once for every replica
                         (default: http://127.0.0.1:10060)
  --telemetry-path PATH  where the metrics are (default: /metrics)
  --prometheus-url URL   also check that this Prometheus scrapes the exporter, has the numbers, and
                         has loaded the alerts (default: not checked)
  --job NAME             the job's name in Prometheus (default: rsolv-exporter)
  --timeout SECONDS      how long to wait for the numbers (default: 300: a new series is held at 0
                         for series.birth_hold, 90s by default, before it counts)
  --cleanup              remove the rows of this and of earlier runs at the end, whatever the outcome
  --cleanup-only         remove them and do nothing else
  -h, --help             this text

Removing the rows takes nothing back: what has been counted stays counted.

Exit status: 0 everything as expected, 1 something was not (the last lines say what), 2 wrong usage or
a missing program. SMOKE_TEST_CURL_OPTIONS is given to curl, for TLS and basic auth
(for example "--cacert ca.pem --netrc-file smoke.netrc").
USAGE
}

readonly REPOSITORY=rsolv-exporter/smoke-test
# The mark: a key in `data` that no client of the platform writes.
readonly MARK=rsolv_exporter_smoke_test
readonly ALERTS=(
  ValidationSuccessRateLow MitigationTrustScoreLow ValidationDurationHigh
  ValidationSuccessRateDecreasing MitigationTrustScoreDecreasing ValidationDurationIncreasing
  ValidationExecutionsHang MitigationExecutionsHang
  NoValidationActivity NoMitigationActivity LowTestGenerationRate
)

database_url=${DATABASE_URL:-}
schema=public
metrics_urls=()
telemetry_path=/metrics
prometheus_url=
job=rsolv-exporter
timeout=300
cleanup=no

wrong_usage() {
  printf 'smoke-test.sh: %s\nTry --help.\n' "$1" >&2
  exit 2
}

while (($#)); do
  case $1 in
    --database-url | --schema | --metrics-url | --telemetry-path | --prometheus-url | --job | --timeout)
      (($# >= 2)) || wrong_usage "$1 needs a value"
      case $1 in
        --database-url) database_url=$2 ;;
        --schema) schema=$2 ;;
        --metrics-url) metrics_urls+=("${2%/}") ;;
        --telemetry-path) telemetry_path=$2 ;;
        --prometheus-url) prometheus_url=${2%/} ;;
        --job) job=$2 ;;
        --timeout) timeout=$2 ;;
      esac
      shift 2
      ;;
    --cleanup) cleanup=after; shift ;;
    --cleanup-only) cleanup=only; shift ;;
    -h | --help) usage; exit 0 ;;
    *) wrong_usage "unknown option $1" ;;
  esac
done
[[ $timeout =~ ^[0-9]+$ ]] || wrong_usage "--timeout wants a number of seconds, not '$timeout'"
[[ $schema =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] || wrong_usage "--schema wants a plain name, not '$schema'"
((${#metrics_urls[@]})) || metrics_urls=(http://127.0.0.1:10060)
for program in psql curl; do
  command -v "$program" >/dev/null || { printf 'smoke-test.sh: %s is not installed\n' "$program" >&2; exit 2; }
done
read -ra curl_options <<<"${SMOKE_TEST_CURL_OPTIONS:-}"

# A terminal gets ticks and colours; a log gets plain words.
if [[ -t 1 ]]; then
  readonly TICK=$'  \e[32m✓\e[0m' CROSS=$'  \e[31m✗\e[0m' SKIP=$'  \e[2m-\e[0m'
else
  readonly TICK='  ok  ' CROSS='  FAIL' SKIP='  skip'
fi
ok() { printf '%s %s\n' "$TICK" "$*"; }
skipped() { printf '%s %s\n' "$SKIP" "$*"; }
section() { printf '\n%s\n' "$*"; }
# fail WHAT [DETAIL...]. Not to be called in a subshell: it could not end the script from there.
fail() {
  reason_given=yes
  printf '%s %s\n' "$CROSS" "$1"
  shift
  local line
  for line in "$@"; do printf '         %s\n' "$line"; done
  exit 1
}

# --- the database ---------------------------------------------------------------------------------

# psql takes the URL as an argument, and arguments can be read by every user of the machine: the
# password goes through the environment.
psql_target=()
prepare_database_url() {
  [[ -n $database_url ]] || return 0
  # The platform writes its URLs with Ecto's scheme.
  database_url=${database_url/#ecto:/postgres:}
  if [[ $database_url =~ ^(postgres(ql)?://[^:/@?]+):([^@/?]*)@(.*)$ ]]; then
    local encoded=${BASH_REMATCH[3]}
    # Percent-encoding, undone by printf: every backslash is doubled first.
    encoded=${encoded//\\/\\\\}
    printf -v PGPASSWORD '%b' "${encoded//%/\\x}"
    export PGPASSWORD
    database_url="${BASH_REMATCH[1]}@${BASH_REMATCH[4]}"
  fi
  psql_target=(--dbname "$database_url")
}

sql() {
  PGCONNECT_TIMEOUT=${PGCONNECT_TIMEOUT:-10} PGAPPNAME=rsolv-exporter-smoke-test \
    psql -X -q -A -t -v ON_ERROR_STOP=1 -v schema="$schema" -v run="$run" -v mark="$MARK" \
    "${psql_target[@]}" 2>&1
}

write_rows() {
  # One transaction: either all four are there, or none.
  sql <<'SQL'
BEGIN;
SELECT set_config('search_path', quote_ident(:'schema'), true) \g /dev/null
INSERT INTO repositories (forge_type, namespace, name, full_path, first_seen_at, last_activity_at,
                          metadata, inserted_at, updated_at)
SELECT 'github', 'rsolv-exporter', 'smoke-test', 'rsolv-exporter/smoke-test', t, t,
       jsonb_build_object(:'mark', true), t, t
FROM (SELECT now() AT TIME ZONE 'UTC' AS t) moment
ON CONFLICT (forge_type, namespace, name) DO UPDATE SET last_activity_at = excluded.last_activity_at;

INSERT INTO validation_executions (repository_id, issue_number, commit_sha, status, validated,
                                   vulnerabilities_found, data, started_at, completed_at,
                                   inserted_at, updated_at)
SELECT r.id, v.issue, 'smoke-test-' || :'run', 'completed', true, v.vulnerabilities,
       jsonb_build_object('language', 'javascript', 'framework', 'express', 'validated', true,
                          'tests_generated', v.generated, 'tests_passed', v.passed,
                          'tests_failed', v.failed, :'mark', :'run'),
       t - v.took, t, t, t
FROM (VALUES (1, 5, 4, 1, 2, interval '45 seconds'),
             (2, 3, 3, 0, 1, interval '8 seconds')) v (issue, generated, passed, failed, vulnerabilities, took),
     (SELECT id FROM repositories
      WHERE forge_type = 'github' AND namespace = 'rsolv-exporter' AND name = 'smoke-test') r,
     (SELECT now() AT TIME ZONE 'UTC' AS t) moment;

INSERT INTO mitigation_executions (repository_id, issue_number, commit_sha, status, pr_url, pr_number,
                                   files_changed, data, started_at, completed_at, inserted_at, updated_at)
SELECT r.id, m.issue, 'smoke-test-' || :'run', 'completed',
       'https://example.com/rsolv-exporter/smoke-test/pull/' || m.pr, m.pr, m.files,
       jsonb_build_object('language', 'javascript', 'framework', 'express', 'trust_score', m.trust,
                          'pr_number', m.pr, 'files_changed', m.files, :'mark', :'run'),
       t - m.took, t, t, t
FROM (VALUES (1, 85, 42, 3, interval '90 seconds'),
             (2, 92, 43, 2, interval '20 seconds')) m (issue, trust, pr, files, took),
     (SELECT id FROM repositories
      WHERE forge_type = 'github' AND namespace = 'rsolv-exporter' AND name = 'smoke-test') r,
     (SELECT now() AT TIME ZONE 'UTC' AS t) moment;
COMMIT;
SQL
}

remove_rows() {
  # The marked rows, and the repository only when nothing else has come to hang on it: its executions
  # would go with it.
  sql <<'SQL'
BEGIN;
SELECT set_config('search_path', quote_ident(:'schema'), true) \g /dev/null
WITH smoke AS (
  SELECT id FROM repositories
  WHERE forge_type = 'github' AND namespace = 'rsolv-exporter' AND name = 'smoke-test'
), validations AS (
  DELETE FROM validation_executions
  WHERE repository_id IN (SELECT id FROM smoke) AND jsonb_exists(data, :'mark') RETURNING 1
), mitigations AS (
  DELETE FROM mitigation_executions
  WHERE repository_id IN (SELECT id FROM smoke) AND jsonb_exists(data, :'mark') RETURNING 1
)
SELECT (SELECT count(*) FROM validations) + (SELECT count(*) FROM mitigations);
DELETE FROM repositories r
WHERE forge_type = 'github' AND namespace = 'rsolv-exporter' AND name = 'smoke-test'
  AND jsonb_exists(metadata, :'mark')
  AND NOT EXISTS (SELECT FROM validation_executions WHERE repository_id = r.id)
  AND NOT EXISTS (SELECT FROM mitigation_executions WHERE repository_id = r.id);
COMMIT;
SQL
}

clean_up() {
  local removed
  if removed=$(remove_rows); then
    ok "test rows removed from the database: $removed (what was counted stays counted)"
  else
    printf '%s %s\n         %s\n' "$CROSS" "the test rows could not be removed" "$removed"
    return 1
  fi
}

at_exit() {
  local status=$? command=$BASH_COMMAND
  trap - EXIT
  if [[ $cleanup == after && $written == yes ]]; then
    section "Cleaning up"
    clean_up || { status=1; reason_given=yes; }
  fi
  if ((status == 0)); then
    printf '\nAll good.\n'
  elif [[ $reason_given == yes ]]; then
    printf '\nThe smoke test failed; the reason stands above.\n' >&2
  else
    printf '\nThe smoke test was stopped, or something in it failed that should not: %s\n' "$command" >&2
    status=1
  fi
  exit "$status"
}

# --- the exporter ---------------------------------------------------------------------------------

http() { curl --silent --show-error --max-time 10 "${curl_options[@]}" "$@" 2>&1; }
# Prints the body and, on a line of its own, the status: /-/ready says why it is not.
http_with_status() { http --write-out '\n%{http_code}' "$1"; }

# value PAGE NAME [LABEL...]: the value of the one series of that name that has all the labels
# (`key="value"`), or nothing.
value() {
  local page=$1 name=$2 line label
  shift 2
  while IFS= read -r line; do
    # A following letter would be another metric's name.
    [[ $line == "$name{"* || $line == "$name "* ]] || continue
    for label in "$@"; do
      # With what stands before and after it, `repo="a"` is not found inside `other_repo="a"`.
      [[ $line == *"{$label,"* || $line == *"{$label}"* || $line == *",$label,"* || $line == *",$label}"* ]] ||
        continue 2
    done
    line=${line##*\} }
    line=${line#"$name "}
    # A timestamp may follow.
    printf '%s' "${line%% *}"
    return
  done <<<"$page"
}

readonly LABELS=("repo=\"$REPOSITORY\"" 'language="javascript"' 'framework="express"')
# name | a further label | increment. The platform's smoke test, and what else these rows imply.
readonly EXPECTED=(
  'rsolv_validation_executions_total|status="completed"|2'
  'rsolv_validation_executions_total|status="failed"|0'
  'rsolv_validation_executions_total|status="timeout"|0'
  'rsolv_validation_duration_milliseconds_count||2'
  'rsolv_validation_duration_milliseconds_sum||53000'
  'rsolv_validation_test_generated_total||8'
  'rsolv_validation_tests_reported_total||2'
  'rsolv_validation_test_passed_total||7'
  'rsolv_validation_test_failed_total||1'
  'rsolv_validation_vulnerabilities_found_total||3'
  'rsolv_mitigation_executions_total|status="completed"|2'
  'rsolv_mitigation_executions_total|status="failed"|0'
  'rsolv_mitigation_executions_total|status="timeout"|0'
  'rsolv_mitigation_trust_score_value_sum||177'
  'rsolv_mitigation_trust_score_value_count||2'
  'rsolv_mitigation_duration_milliseconds_count||2'
  'rsolv_mitigation_duration_milliseconds_sum||110000'
  'rsolv_mitigation_pr_created_total||2'
)

whole() {
  # Sums of histograms are printed as floats; all of ours are whole numbers.
  local number=${1:-0}
  number=${number%.0}
  if [[ $number =~ ^[0-9]+$ ]]; then printf '%s' "$number"; else printf '%.0f' "$number"; fi
}

read_metrics() { # sets $page
  local answer code
  answer=$(http_with_status "$1$telemetry_path") ||
    fail "no metrics from $1$telemetry_path" "${answer%$'\n'*}"
  code=${answer##*$'\n'}
  page=${answer%$'\n'*}
  [[ $code == 200 ]] || fail "$1$telemetry_path answers $code, not 200" "${page:0:300}"
  # A page can be long and bash is slow: keep what is looked at below.
  page=$(grep -F -e "repo=\"$REPOSITORY\"" -e rsolv_exporter_ <<<"$page") ||
    fail "$1$telemetry_path is not a page of rsolv-exporter" "it has no rsolv_exporter_… metric"
}

declare -A before=()
remember() { # URL: keeps what the page says before anything is written
  local url=$1 entry name label
  for entry in "${EXPECTED[@]}"; do
    IFS='|' read -r name label _ <<<"$entry"
    before["$url $name $label"]=$(whole "$(value "$page" "$name" "${LABELS[@]}" ${label:+"$label"})")
  done
}

# Sets `missing` (still too low) and `excess` (counted more than once) from $page.
compare() {
  local url=$1 entry name label want seen seen_before rise
  missing=()
  excess=()
  for entry in "${EXPECTED[@]}"; do
    IFS='|' read -r name label want <<<"$entry"
    seen=$(value "$page" "$name" "${LABELS[@]}" ${label:+"$label"})
    seen_before=${before["$url $name $label"]}
    rise=$(whole "$seen")
    rise=$((rise - seen_before))
    if [[ -z $seen ]]; then
      missing+=("$name${label:+{$label\}}: not there, expected an increment of $want")
    elif ((rise < want)); then
      missing+=("$name${label:+{$label\}}: rose by $rise, expected $want")
    elif ((rise > want)); then
      excess+=("$name${label:+{$label\}}: rose by $rise, expected $want")
    fi
  done
}

check_alive() {
  local url=$1 answer code up
  answer=$(http_with_status "$url/-/healthy") || fail "the exporter at $url cannot be reached" "${answer%$'\n'*}"
  code=${answer##*$'\n'}
  [[ $code == 200 ]] || fail "$url/-/healthy answers $code, not 200" "${answer%$'\n'*}"
  ok "$url is healthy"
  answer=$(http_with_status "$url/-/ready") || fail "$url/-/ready cannot be reached" "${answer%$'\n'*}"
  code=${answer##*$'\n'}
  [[ $code == 200 ]] || fail "$url is not ready ($code): it has no current data" "${answer%$'\n'*}"
  ok "$url is ready"
  read_metrics "$url"
  up=$(value "$page" rsolv_exporter_up)
  [[ $up == 1 ]] || fail "rsolv_exporter_up is ${up:-missing} at $url: its last poll failed" \
    "see its log, and rsolv_exporter_poll_failures_total"
  ok "its last poll of the database succeeded"
  # Nobody has to hold a rejection against the smoke test that was there before.
  before["$url rejected"]=$(rejected)
  remember "$url"
}

rejected() {
  local line total=0 number
  while IFS= read -r line; do
    if [[ $line == "rsolv_exporter_rejected_values_total{"* ]]; then
      number=$(whole "${line##* }")
      total=$((total + number))
    fi
  done <<<"$page"
  printf '%s' "$total"
}

wait_for_numbers() {
  local url=$1 started=$SECONDS deadline=$((SECONDS + timeout)) entry name label want polls now rise
  while true; do
    read_metrics "$url"
    compare "$url"
    ((${#excess[@]} == 0)) || fail "$url counts more than was written" "${excess[@]}" \
      "(is another smoke test running, or does something else write to $REPOSITORY?)"
    ((${#missing[@]})) || break
    ((SECONDS < deadline)) || fail "$url does not show the executions after ${timeout}s" "${missing[@]}"
    if [[ -t 1 ]]; then printf '\r    waiting for %s numbers … %ss ' "${#missing[@]}" $((SECONDS - started)); fi
    sleep 1
  done
  if [[ -t 1 ]]; then printf '\r\e[K'; fi
  for entry in "${EXPECTED[@]}"; do
    IFS='|' read -r name label want <<<"$entry"
    ok "$name${label:+{$label\}} +$want"
  done

  # Once more after further polls: an exporter that counts a row again at each poll is right once.
  polls=$(whole "$(value "$page" rsolv_exporter_polls_total)")
  deadline=$((SECONDS + timeout))
  while true; do
    read_metrics "$url"
    now=$(whole "$(value "$page" rsolv_exporter_polls_total)")
    ((now < polls + 2)) || break
    ((SECONDS < deadline)) || fail "$url has stopped polling: rsolv_exporter_polls_total stays at $now"
    sleep 1
  done
  compare "$url"
  ((${#excess[@]} == 0)) || fail "$url counts the same executions again" "${excess[@]}"
  ((${#missing[@]} == 0)) || fail "$url has taken numbers back" "${missing[@]}"
  ok "unchanged after two more polls: counted exactly once"

  now=$(rejected)
  rise=$((now - ${before["$url rejected"]}))
  if ((rise == 0)); then
    ok "no value was rejected"
  else
    skipped "$rise values were rejected meanwhile (not from these rows, or the sums above were off)"
  fi
}

# --- Prometheus -----------------------------------------------------------------------------------

# query EXPRESSION: sets $values to the values of the result, one a line.
query() {
  local answer
  answer=$(http --get --data-urlencode "query=$1" "$prometheus_url/api/v1/query") ||
    fail "Prometheus at $prometheus_url cannot be reached" "$answer"
  [[ $answer == *'"status":"success"'* ]] || fail "Prometheus refuses a query" "$1" "${answer:0:300}"
  # Each sample is "value":[TIME,"NUMBER"]; nothing else in the answer looks so, for quotes inside
  # label values are escaped.
  values=$(grep -oE '"value":\[[0-9.]+,"[^"]*"\]' <<<"$answer" | sed -E 's/.*,"(.*)"\]/\1/' || true)
}

check_prometheus() {
  local answer values rules alert unhealthy up total want=${#metrics_urls[@]} until
  answer=$(http "$prometheus_url/-/ready") || fail "Prometheus at $prometheus_url cannot be reached" "$answer"
  ok "$prometheus_url answers"

  # The target may have been added only a moment ago.
  until=$((SECONDS + 60))
  while true; do
    query "up{job=\"$job\"}"
    total=$(grep -c . <<<"$values" || true)
    up=$(grep -c '^1$' <<<"$values" || true)
    ((up < want)) || break
    if ((SECONDS >= until)); then
      ((total)) || fail "Prometheus has no target of job \"$job\"" "add it to scrape_configs, or apply the PodMonitor"
      fail "Prometheus does not scrape every target of job \"$job\"" \
        "$up of $total are up, expected at least $want: see $prometheus_url/targets"
    fi
    sleep 1
  done
  ok "it scrapes job \"$job\" ($up up)"

  # Every replica counts the same rows: the largest is the truth.
  want=${before["${metrics_urls[0]} rsolv_validation_executions_total status=\"completed\""]}
  want=$((want + 2))
  until=$((SECONDS + 120))
  while true; do
    query "max(rsolv_validation_executions_total{job=\"$job\",repo=\"$REPOSITORY\",language=\"javascript\",framework=\"express\",status=\"completed\"})"
    [[ $(whole "$values") != "$want" ]] || break
    ((SECONDS < until)) || fail "Prometheus does not have the new number" \
      "rsolv_validation_executions_total is ${values:-missing} there, $want at the exporter"
    sleep 1
  done
  ok "it has the numbers of this test"

  rules=$(http "$prometheus_url/api/v1/rules?type=alert") || fail "Prometheus does not list its rules" "$rules"
  for alert in "${ALERTS[@]}"; do
    [[ $rules == *"\"name\":\"$alert\""* ]] ||
      fail "alert $alert is not loaded" "add the files of alerts/ to rule_files, or apply the PrometheusRule"
  done
  ok "all ${#ALERTS[@]} alerts about executions are loaded"
  unhealthy=$(grep -o '"health":"err"' <<<"$rules" | wc -l || true)
  ((unhealthy == 0)) || fail "$unhealthy alerts cannot be evaluated" "see $prometheus_url/rules"
  ok "every alert can be evaluated"
}

# --- the test -------------------------------------------------------------------------------------

run=$(date -u +%Y%m%dT%H%M%SZ)-$$
written=no
reason_given=no
page=
missing=()
excess=()
prepare_database_url

if [[ $cleanup == only ]]; then
  clean_up || exit 1
  exit 0
fi
trap at_exit EXIT

printf 'Smoke test %s\n' "$run"
section "The exporter before"
for url in "${metrics_urls[@]}"; do check_alive "$url"; done

section "Writing two validations and two mitigations"
output=$(write_rows) || fail "the rows could not be written" "$output"
written=yes
ok "written for $REPOSITORY, marked $run"

section "The exporter after (a new series stays at 0 for a while first: series.birth_hold)"
for url in "${metrics_urls[@]}"; do wait_for_numbers "$url"; done

section "Prometheus"
if [[ -n $prometheus_url ]]; then
  check_prometheus
else
  skipped "not checked: no --prometheus-url"
fi
