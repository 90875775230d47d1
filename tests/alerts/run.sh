#!/usr/bin/env bash
# Checks and tests alerts/: rules, routing, scrape configuration, runbooks. Needs no exporter and no running service; what
# is missing on a Debian machine is installed, or named. `run.sh NAME…` runs only the parts that are named.
set -uo pipefail

cd "$(dirname "$0")/../.." || exit 1
here=tests/alerts
venv=.tools/checks-venv
python=$PWD/$venv/bin/python
. tests/checks.sh

need promtool prometheus
need amtool prometheus-alertmanager
need shellcheck shellcheck
environment tests/requirements.txt $venv

rules() {
    check "rules are valid and free of lint" promtool check rules --lint=all --lint-fatal alerts/*.rules.yml
    check "prometheus.yml is valid" promtool check config alerts/prometheus.yml
    local files=("$here"/rules/*.test.yml) logs file name
    logs=$(mktemp -d)
    # Two at a time: they are the longest part by far.
    # shellcheck disable=SC2016 # the inner shell expands it
    printf '%s\0' "${files[@]}" | LOGS=$logs xargs -0 -P 2 -I '{}' sh -c '
        name=$(basename "$1"); cd "$(dirname "$1")" || exit 1
        if promtool test rules "$name" >"$LOGS/$name" 2>&1; then touch "$LOGS/$name.ok"; fi
    ' _ '{}'
    for file in "${files[@]}"; do
        name=$(basename "$file")
        check "rules/$name" sh -c "cat '$logs/$name'; test -e '$logs/$name.ok'"
    done
    rm -rf "$logs"
}

case_of() { # what the alert is, and which receivers get it, in order
    local receivers=$1
    shift
    check "route: $* → $receivers" \
        amtool config routes test --config.file alerts/alertmanager.yml --verify.receivers="$receivers" "$@"
}

routes() {
    check "alertmanager.yml is valid" amtool check-config alerts/alertmanager.yml
    case_of webhook,pagerduty,slack severity=critical component=validation environment=production
    case_of webhook,pagerduty,slack severity=critical component=exporter environment=production
    case_of webhook,pagerduty,slack severity=critical component=mitigation environment=europe
    case_of webhook,pagerduty,slack severity=critical component=validation
    case_of webhook,slack severity=critical component=validation environment=staging
    case_of webhook,slack severity=critical component=exporter environment=test
    case_of webhook,slack severity=warning component=validation environment=production
    case_of webhook,slack severity=warning component=mitigation environment=staging
    case_of webhook,email severity=warning component=exporter environment=production
    case_of webhook,slack-info severity=info component=validation environment=production
    case_of webhook,slack-info severity=info component=mitigation environment=production
    case_of webhook,slack component=other
    check "notifications arrive, with the right text, and are inhibited" "$python" "$here/notify.py"
}

documents() {
    check "rules keep the house rules, and every alert is tested" "$python" "$here/rules_check.py"
    check "runbooks: sections, PromQL, metrics" "$python" "$here/runbooks_check.py"
    check "shellcheck" shellcheck -x "$here"/*.sh tests/*.sh
    check "yamllint" "$venv/bin/yamllint" --strict -c "$here/yamllint.yml" alerts/*.yml "$here"/rules
}

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(documents routes rules)
for part in "${parts[@]}"; do
    case $part in
        documents | routes | rules) "$part" ;;
        *) echo "usage: run.sh [documents] [routes] [rules]" >&2; exit 2 ;;
    esac
done

summary
