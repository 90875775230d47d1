#!/usr/bin/env bash
# Checks and tests dashboards/: structure, Grafana's schema, and every expression against a real Prometheus. Needs no Grafana,
# no exporter and no running service; what is missing on a Debian machine is installed, or named.
#
# usage: run.sh [--draw]    --draw also paints what the panels show into .tools/pictures
set -uo pipefail

cd "$(dirname "$0")/../.." || exit 1
here=tests/dashboards
venv=.tools/checks-venv
python=$PWD/$venv/bin/python
. tests/checks.sh
# The oldest and the newest Grafana the dashboards are checked against. The epoch in front is how the types are versioned.
schemas=('1769699998!10.1.0' '1769699379!11.6.0')

draw=no
case ${1:-} in
    '') ;;
    --draw) draw=yes ;;
    *) echo "usage: run.sh [--draw]" >&2; exit 2 ;;
esac

need prometheus prometheus
need promtool prometheus
need shellcheck shellcheck
environment tests/requirements.txt $venv

check "panels, variables, units, links, provisioning" "$python" "$here/structure_check.py"

for version in "${schemas[@]}"; do
    types=.tools/grafana-types-${version#*!}
    if [ ! -e "$types/complete" ]; then
        echo "fetching Grafana's types, version ${version#*!}"
        rm -rf "$types"
        "$venv/bin/pip" install -q --disable-pip-version-check --target "$types" "grafana-foundation-sdk==$version" &&
            touch "$types/complete"
    fi
    check "schema of Grafana ${version#*!}" env PYTHONPATH="$PWD/$types" "$python" "$here/schema_check.py"
done

check "every expression returns data, and the true numbers" "$python" "$here/panels_check.py"
check "shellcheck" shellcheck -x "$here"/*.sh
check "yamllint" "$venv/bin/yamllint" --strict -c tests/alerts/yamllint.yml dashboards/provisioning

if [ "$draw" = yes ]; then
    "$python" -c 'import matplotlib' 2>/dev/null || "$venv/bin/pip" install -q --disable-pip-version-check matplotlib
    "$python" "$here/panels_check.py" --draw
fi

summary
