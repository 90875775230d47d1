#!/bin/sh
# Runs what a newer Prometheus can do or reads differently on one that Debian has for a later release:
#
#     tests/prometheus-3.sh              all of it
#     tests/prometheus-3.sh births::     only Rust tests of that name
#
# The packages are unpacked in .tools/prometheus-3 and not installed; nothing of the machine is changed.
set -eu
cd "$(dirname "$0")/.."

suite=sid
folder=$PWD/.tools/prometheus-3
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

fail() {
    printf 'prometheus-3: %s\n' "$*" >&2
    exit 1
}

# A configuration of apt's own, with lists of its own.
fetch() {
    command -v apt-get >/dev/null || fail 'apt-get is missing; it fetches Prometheus 3'
    [ -e "$keyring" ] || fail "there is no $keyring, with which the package is verified"
    # shellcheck disable=SC2016 # apt-get expands it
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep '/debian/*$' | head -n 1)
    [ -n "$mirror" ] || fail 'apt knows no mirror of Debian'
    printf 'prometheus-3: fetching Prometheus of Debian %s into .tools/prometheus-3\n' "$suite" >&2
    rm -rf "$folder"
    mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial"
    printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$suite" >"$folder/sources.list"
    set -- -q -o "Dir::Etc::sourcelist=$folder/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o "Dir::State::Lists=$folder/lists" -o "Dir::Cache=$folder/cache" -o Dir::Etc::preferencesparts=/dev/null \
        -o APT::Sandbox::User=root -o Acquire::Languages=none
    apt-get "$@" update >&2 || fail "apt-get cannot read the list of Debian $suite"
    (cd "$folder" && apt-get "$@" download prometheus promtool >&2) ||
        fail 'apt-get cannot fetch the packages prometheus and promtool'
    for package in "$folder"/*.deb; do
        dpkg -x "$package" "$folder"
    done
    for program in prometheus promtool; do
        "$folder/usr/bin/$program" --version >/dev/null || fail "$program of Debian $suite does not run here"
    done
    rm -rf "$folder/lists" "$folder/cache" "$folder"/*.deb
    : >"$folder/complete"
}

[ -e "$folder/complete" ] || fetch
tests/setup.sh build postgres prometheus python go
PATH=$folder/usr/bin:$PATH
export PATH
prometheus --version | head -n 1
if [ $# -gt 0 ]; then
    exec cargo test --locked --test integration -- "$@"
fi
cargo test --locked --test integration -- prometheus_3:: births:: alerting:: protobuf:: formats::
tests/alerts/run.sh documents >/dev/null # makes the environment
.tools/checks-venv/bin/python -B tests/alerts/modes.py
tests/dashboards/run.sh
