#!/usr/bin/env bash
# Checks everything in deploy/ that can be checked without a container engine, a cluster or a service
# manager. Arguments go to pytest, e.g. `tests/deploy/run.sh -k systemd`.
#
# Uses the exporter that RSOLV_EXPORTER_BIN names, else the newest one under target/; tests that need
# one are skipped when there is none.
set -euo pipefail

cd "$(dirname "$0")/../.."
. tests/checks.sh

tests/setup.sh postgres prometheus

need curl curl
need psql postgresql-client
need systemd-analyze systemd
need strace strace
venv=.tools/deploy-venv
environment tests/deploy/requirements.txt "$venv"

exec "$venv/bin/python" -m pytest -p no:cacheprovider -q -rs tests/deploy "$@" </dev/null
