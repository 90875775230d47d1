# What the scripts that check alerts/, dashboards/ and deploy/ share. Sourced by bash from the root of the repository.
# shellcheck shell=bash

passed=0
failed=0
# No __pycache__ in the checkout.
export PYTHONDONTWRITEBYTECODE=1

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

# The last line, and the exit status.
summary() {
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
}

# need COMMAND PACKAGE: installs a Debian package where that is possible without asking.
need() {
    command -v "$1" >/dev/null && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing $2, for $1"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$2" \
            >/dev/null && return
    fi
    echo "$1 is missing: install $2 (Debian package)" >&2
    exit 1
}

# environment REQUIREMENTS FOLDER: a Python environment with these packages, made anew when they have changed.
environment() {
    cmp -s "$1" "$2/requirements.txt" && return
    python3 -c 'import ensurepip' 2>/dev/null || need ensurepip python3-venv
    echo "making a Python environment in $2"
    rm -rf "$2"
    if ! { python3 -m venv "$2" && "$2/bin/pip" install -q --disable-pip-version-check -r "$1"; }; then
        echo "could not make it: python3-venv and a package index are needed" >&2
        exit 1
    fi
    cp "$1" "$2/requirements.txt"
}
