#!/usr/bin/env bash
# Runs every suite, shows what each prints, and ends with one line: N passed, N failed.
# Usage: tests/run.sh [SUITE ...]   (rust alerts dashboards deploy systemd; all without an argument)
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

passed=0
failed=0
summary=""
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# The numbers of cargo ("test result: ok. 3 passed; 0 failed", once per program) or of the last line of our own scripts
# ("3 passed, 0 failed").
count() {
    {
        grep -E '^test result:' "$log"
        grep -E '^[0-9]+ passed, [0-9]+ failed' "$log" | tail -n 1
    } | grep -oE "[0-9]+ $1" | awk '{ n += $1 } END { print n + 0 }'
}

suite() {
    local name=$1 good bad status
    shift
    printf '\n== %s: %s\n' "$name" "$*"
    "$@" 2>&1 </dev/null | tee "$log"
    status=${PIPESTATUS[0]}
    good=$(count passed)
    bad=$(count failed)
    # A suite that could not even run has failed as well, and so has one that tested nothing.
    if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
    if [ "$good" -eq 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
    passed=$((passed + good))
    failed=$((failed + bad))
    summary+=$(printf '%-12s %5d passed %5d failed' "$name" "$good" "$bad")$'\n'
}

suites=${*:-rust alerts dashboards deploy systemd}
for name in $suites; do
    case $name in
        rust) suite rust cargo test --locked ;;
        alerts | dashboards | deploy) suite "$name" "tests/$name/run.sh" ;;
        systemd)
            # It boots a container, which only root may.
            if [ "$(id -u)" -eq 0 ]; then suite systemd tests/deploy/systemd/run.sh; else
                printf '\n== systemd: left out, for it needs root (make test-systemd)\n'
            fi
            ;;
        *) echo "no suite $name: rust, alerts, dashboards, deploy, systemd" >&2; exit 2 ;;
    esac
done

printf '\n%s%d passed, %d failed\n' "$summary" "$passed" "$failed"
[ "$failed" -eq 0 ]
