#!/usr/bin/env bash
# Checks and tests dashboards/: structure, Grafana's schema, and every expression against a real Prometheus. Needs no Grafana,
# no exporter and no running service; what is missing on a Debian machine is installed, or named.
#
# usage: run.sh [--draw]    --draw also paints what the panels show into .tools/pictures
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
tools=$root/.tools
venv=$tools/dashboards-venv
# The oldest and the newest Grafana the dashboards are checked against. The epoch in front is how the types are versioned.
schemas=('1769699998!10.1.0' '1769699379!11.6.0')
cd "$root" || exit 1

draw=no
case ${1:-} in
    '') ;;
    --draw) draw=yes ;;
    *) echo "usage: run.sh [--draw]" >&2; exit 2 ;;
esac

passed=0
failed=0

# check NAME COMMAND…: one line, and the output only when it fails.
check() {
    local name=$1 output
    shift
    if output=$("$@" 2>&1); then
        passed=$((passed + 1))
        echo "ok    $name"
    else
        failed=$((failed + 1))
        echo "FAIL  $name"
        # shellcheck disable=SC2001 # every line, which ${//} cannot anchor
        sed 's/^/      /' <<<"$output"
    fi
}

# need COMMAND PACKAGE: installs a Debian package when we may.
need() {
    command -v "$1" >/dev/null && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing $2, for $1"
        apt-get install -qq -y --no-install-recommends "$2" >/dev/null && return
    fi
    echo "$1 is missing: install $2 (Debian package)" >&2
    exit 1
}

need prometheus prometheus
need promtool prometheus
need shellcheck shellcheck
need python3 python3-venv
if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    echo "making a Python environment in ${venv#"$root"/}"
    rm -rf "$venv"
    if ! { python3 -m venv "$venv" && "$venv/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt"; }; then
        echo "could not make it: python3-venv and a package index are needed" >&2
        exit 1
    fi
    cp "$here/requirements.txt" "$venv/requirements.txt"
fi
python=$venv/bin/python
# No __pycache__ in the checkout.
export PYTHONDONTWRITEBYTECODE=1

check "panels, variables, units, links, provisioning" "$python" "$here/structure_check.py"

for version in "${schemas[@]}"; do
    types=$tools/grafana-types-${version#*!}
    if [ ! -e "$types/complete" ]; then
        echo "fetching Grafana's types, version ${version#*!}"
        rm -rf "$types"
        "$venv/bin/pip" install -q --disable-pip-version-check --target "$types" "grafana-foundation-sdk==$version" &&
            touch "$types/complete"
    fi
    check "schema of Grafana ${version#*!}" env PYTHONPATH="$types" "$python" "$here/schema_check.py"
done

check "every expression returns data, and the true numbers" "$python" "$here/panels_check.py"
check "shellcheck" shellcheck "$here"/*.sh
check "yamllint" "$venv/bin/yamllint" --strict -c "$root/tests/alerts/yamllint.yml" dashboards/provisioning

if [ "$draw" = yes ]; then
    "$python" -c 'import matplotlib' 2>/dev/null || "$venv/bin/pip" install -q --disable-pip-version-check matplotlib
    "$python" "$here/panels_check.py" --draw
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
