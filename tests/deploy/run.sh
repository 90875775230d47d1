#!/usr/bin/env bash
# Checks everything in deploy/ that can be checked without a container engine, a cluster or a service
# manager. Arguments go to pytest, e.g. `tests/deploy/run.sh -k systemd`.
#
# Uses the exporter that RSOLV_EXPORTER_BIN names, else the newest one under target/; tests that need
# one are skipped when there is none.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."

tests/setup.sh postgres prometheus

# What else is missing is installed where that is possible without asking, and named otherwise.
missing=()
command -v curl >/dev/null || missing+=(curl)
command -v psql >/dev/null || missing+=(postgresql-client)
command -v systemd-analyze >/dev/null || missing+=(systemd)
command -v strace >/dev/null || missing+=(strace)
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
if ((${#missing[@]})); then
  echo "tests/deploy: missing: ${missing[*]}"
  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  else
    echo "tests/deploy: install them (Debian: apt-get install ${missing[*]})" >&2
    exit 1
  fi
fi

venv=.tools/deploy-venv
if ! cmp -s tests/deploy/requirements.txt "$venv/requirements.txt"; then
  echo "tests/deploy: installing the tools into $venv"
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/deploy/requirements.txt
  cp tests/deploy/requirements.txt "$venv/requirements.txt"
fi

exec "$venv/bin/python" -m pytest -p no:cacheprovider -q -rs tests/deploy "$@" </dev/null
