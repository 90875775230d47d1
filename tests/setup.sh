#!/bin/sh
# Installs what the tests and the demo need and this machine lacks:
#
#     tests/setup.sh build         what compiling needs: a C compiler, OpenSSL's headers
#     tests/setup.sh postgres      PostgreSQL server, 13 or later
#     tests/setup.sh prometheus    Prometheus, promtool, Alertmanager, amtool
#     tests/setup.sh pgbouncer     PgBouncer
#     tests/setup.sh patroni       Patroni, etcd and HAProxy
#     tests/setup.sh python        Prometheus' Python client and Google's protobuf, in .tools/python
#     tests/setup.sh web           curl and openssl, to ask for pages with TLS
#     tests/setup.sh systemd       mmdebstrap and systemd-nspawn, to boot a machine in a container
#     tests/setup.sh image         mmdebstrap and buildah, to build the container's image
#     tests/setup.sh go            Go, with Prometheus' library for it
#     tests/setup.sh browser       Chromium, to look at the status page
#     tests/setup.sh load          psql and wrk, with which the exporter is measured
#     tests/setup.sh fuzz          a C++ compiler, and cargo-fuzz in .tools
#     tests/setup.sh peers         as far as they can be had: the exporters it is measured beside
#
# Says nothing when everything is there. Only programs are installed: no
# service is started or left enabled, and no PostgreSQL cluster is created.
set -eu

usage='usage: tests/setup.sh [build] [postgres] [prometheus] [pgbouncer] [patroni] [python] [web] [browser] [systemd] [image] [go] [load] [fuzz] [peers]'

fail() {
    printf 'setup: ' >&2
    printf '%s\n' "$@" >&2
    exit 1
}

say() {
    printf 'setup: %s\n' "$*" >&2
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# Whether the directory $1 holds the programs of a PostgreSQL server 13+.
server_in() {
    [ -x "$1/initdb" ] && [ -x "$1/postgres" ] || return 1
    major=$("$1/postgres" --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/')
    [ "${major:-0}" -ge 13 ]
}

have_web() {
    have curl && have openssl
}

have_postgres() {
    if [ -n "${RSOLV_TEST_PG_BIN:-}" ]; then
        server_in "$RSOLV_TEST_PG_BIN" ||
            fail "RSOLV_TEST_PG_BIN=$RSOLV_TEST_PG_BIN has no PostgreSQL server 13 or later"
        return 0
    fi
    path=$(command -v postgres || true)
    [ -n "$path" ] && server_in "${path%/*}" && return 0
    for bin in /usr/lib/postgresql/*/bin; do
        server_in "$bin" && return 0
    done
    return 1
}

have_build() {
    # Whoever names a directory of OpenSSL has one.
    have cc && { [ -n "${OPENSSL_DIR:-}${OPENSSL_LIB_DIR:-}" ] || { have pkg-config && pkg-config --exists openssl; }; }
}

have_browser() {
    have chromium
}

have_load() {
    have psql && have wrk
}

have_systemd() {
    have mmdebstrap && have systemd-nspawn
}

have_image() {
    have mmdebstrap && have buildah
}

have_go() {
    have go && [ -d /usr/share/gocode/src/github.com/prometheus/common/expfmt ]
}

have_postgres_exporter() {
    have prometheus-postgres-exporter
}

have_sql_exporter() {
    have prometheus-sql-exporter
}

have_prometheus() {
    have prometheus && have promtool && have_alertmanager
}

have_pgbouncer() {
    # It is in /usr/sbin, which is not on every user's PATH.
    have pgbouncer || [ -x /usr/sbin/pgbouncer ]
}

have_patroni() {
    # Debian's Patroni runs on Debian's Python, whatever is first on PATH.
    have patroni && have etcd && { have haproxy || [ -x /usr/sbin/haproxy ]; } &&
        /usr/bin/python3 -c 'import etcd' 2>/dev/null
}

have_alertmanager() {
    have amtool && { have prometheus-alertmanager || have alertmanager; }
}

have_venv() {
    have python3 && python3 -c 'import ensurepip, venv' 2>/dev/null
}

python=$(cd "$(dirname "$0")/.." && pwd)/.tools/python
# The releases that the tests were written against.
parsers='prometheus_client==0.26.0 protobuf==6.33.6'

have_python() {
    "$python/bin/python" -c 'import prometheus_client, google.protobuf' 2>/dev/null
}

# An environment of its own: it changes nothing of the machine's Python.
make_python() {
    say "installing $parsers in .tools/python with pip: other parsers of what is served, for the tests"
    rm -rf "$python"
    python3 -m venv "$python"
    # shellcheck disable=SC2086 # several words
    "$python/bin/pip" install --quiet --disable-pip-version-check $parsers ||
        fail "pip cannot install $parsers; its last words are above"
}

query_exporter=${python%/*}/query-exporter

have_query_exporter() {
    "$query_exporter/bin/query-exporter" --version >/dev/null 2>&1
}

make_query_exporter() {
    say 'installing query-exporter in .tools/query-exporter with pip: a peer to measure beside'
    rm -rf "$query_exporter"
    python3 -m venv "$query_exporter"
    "$query_exporter/bin/pip" install --quiet --disable-pip-version-check \
        -r "${query_exporter%/.tools/*}/tests/bench/query-exporter.txt" ||
        fail 'pip cannot install query-exporter; its last words are above'
}

tools=${python%/*}

have_fuzz() {
    PATH=$tools/bin:$PATH cargo fuzz --version >/dev/null 2>&1
}

make_fuzz() {
    say 'installing cargo-fuzz in .tools with cargo (a few minutes)'
    cargo install --quiet --locked --root "$tools" cargo-fuzz || fail 'cargo cannot install cargo-fuzz; its last words are above'
}

have_cxx() {
    have c++
}

# Sets what is missing and why of the part $1 of the set-up.
describe() {
    case $1 in
    build)
        packages=
        have cc || packages=gcc
        { have pkg-config && pkg-config --exists openssl; } || packages="$packages pkg-config libssl-dev"
        services=
        purpose='to compile the exporter, which speaks TLS by OpenSSL'
        by_hand='Install a C compiler, pkg-config and the headers of OpenSSL 3.'
        ;;
    cxx)
        packages=g++
        services=
        purpose='to compile the fuzzer, which is written in C++'
        by_hand='Install a C++ compiler and put it on PATH as c++.'
        ;;
    web)
        packages='curl openssl'
        services=
        purpose='certificates, and a client that is not ours, in the tests'
        by_hand='Install curl and openssl and put them on PATH.'
        ;;
    browser)
        packages=chromium
        services=
        purpose='a browser that opens the status page in the tests'
        by_hand='Install Chromium and put chromium on PATH.'
        ;;
    postgres)
        packages=postgresql
        services= # without a cluster, its service has nothing to start
        purpose='a throwaway PostgreSQL server for tests and demo'
        by_hand='Install PostgreSQL 13 or later and put its initdb and postgres on PATH, or set
RSOLV_TEST_PG_BIN to their directory.'
        ;;
    prometheus)
        packages=
        { have prometheus && have promtool; } || packages=prometheus
        have_alertmanager || packages="$packages prometheus-alertmanager"
        services=$packages
        purpose='real scrapes and alerts in the tests'
        by_hand='Install Prometheus and Alertmanager and put prometheus, promtool, alertmanager
and amtool on PATH.'
        ;;
    pgbouncer)
        packages=pgbouncer
        services=pgbouncer
        purpose='a real connection pooler in the tests'
        by_hand='Install PgBouncer and put pgbouncer on PATH.'
        ;;
    patroni)
        packages='patroni python3-etcd etcd-server haproxy'
        services='patroni etcd haproxy'
        purpose='a cluster that fails over in the tests'
        by_hand='Install Patroni with python-etcd, etcd and HAProxy and put patroni, patronictl, etcd and
haproxy on PATH.'
        ;;
    load)
        packages=
        have psql || packages=postgresql-client
        have wrk || packages="$packages wrk"
        services=
        purpose='to measure the exporter'
        by_hand='Install psql and wrk and put them on PATH.'
        ;;
    systemd)
        packages='mmdebstrap systemd-container'
        services=
        purpose='to boot a machine with systemd in the tests'
        by_hand='Install mmdebstrap and systemd-nspawn and put them on PATH.'
        ;;
    image)
        packages='mmdebstrap buildah'
        services=
        purpose="to build the container's image in the tests"
        by_hand='Install mmdebstrap and buildah and put them on PATH.'
        ;;
    go)
        packages='golang-go golang-github-prometheus-common-dev'
        services=
        purpose="to read the pages with Prometheus' library for Go"
        by_hand='Install Go, and github.com/prometheus/common in /usr/share/gocode.'
        ;;
    postgres_exporter | sql_exporter)
        packages=prometheus-$(echo "$1" | tr _ -)
        services=$packages
        purpose='a peer to measure beside'
        by_hand="Install it and put $packages on PATH."
        ;;
    venv)
        packages=python3-venv
        services=
        purpose='an environment for a Python package that tests use'
        by_hand='Install Python 3.9 or later with its module venv.'
        ;;
    *) fail "there is nothing called '$1' to set up" "$usage" ;;
    esac
}

# Package scripts ask policy-rc.d whether they may start a service.
policy=/usr/sbin/policy-rc.d
saved_policy=$policy.before-rsolv-setup
# They create a running cluster unless this file says not to.
cluster_conf=/etc/postgresql-common/createcluster.d/zz-rsolv-setup.conf
log=

forbid_services() {
    # One that an interrupted run has left is not worth keeping.
    if [ -e "$policy" ] && ! grep -q rsolv-setup "$policy"; then
        mv "$policy" "$saved_policy"
    fi
    printf '#!/bin/sh\n# rsolv-setup: no service starts while its package is installed\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    mkdir -p "${cluster_conf%/*}"
    echo 'create_main_cluster = false' >"$cluster_conf"
}

restore() {
    rm -f "$policy" "$cluster_conf"
    if [ -e "$saved_policy" ]; then mv "$saved_policy" "$policy"; fi
    if [ -n "$log" ]; then rm -f "$log"; fi
    # Without PostgreSQL there was no such folder.
    rmdir "${cluster_conf%/*}" /etc/postgresql-common 2>/dev/null || true
}

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
        -o APT::Install-Recommends=false "$@" </dev/null >>"$log" 2>&1
}

install() {
    # A second run would take this one's precautions away too early.
    exec 9>/run/lock/rsolv-setup.lock
    flock 9
    trap restore EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    log=$(mktemp)
    forbid_services
    # Old lists name packages that the servers no longer have. Without any
    # network the lists and packages that are there may still do.
    apt update || say 'apt-get update failed; going on with the package lists that are here'
    # shellcheck disable=SC2086 # several words
    if ! apt install $packages; then
        tail -n 25 "$log" >&2
        fail "apt-get install $packages failed; its last words are above"
    fi
    # What has just been installed would start with the next boot.
    if [ -n "$services" ] && have systemctl; then
        # shellcheck disable=SC2086 # several words
        systemctl disable $services >>"$log" 2>&1 || say "could not disable the services: $services"
    fi
    restore
    trap - EXIT INT TERM HUP
    exec 9>&-
}

[ $# -gt 0 ] || fail "$usage"
for part in "$@"; do
    if [ "$part" = python ]; then
        have_python || { sh "$0" venv && make_python; }
        continue
    fi
    if [ "$part" = query_exporter ]; then
        have_query_exporter || { sh "$0" venv && make_query_exporter; }
        continue
    fi
    if [ "$part" = peers ]; then
        for peer in postgres_exporter sql_exporter query_exporter; do
            sh "$0" "$peer" || say "going on without $peer, which could not be installed"
        done
        continue
    fi
    if [ "$part" = fuzz ]; then
        have_fuzz || { sh "$0" cxx && make_fuzz; }
        continue
    fi
    describe "$part"
    "have_$part" && continue
    have apt-get || fail "no apt-get here to install what is missing ($purpose)." "$by_hand"
    if [ "$(id -u)" -ne 0 ]; then
        have sudo || fail "$packages missing: $purpose. Run as root:" \
            "    tests/setup.sh $part"
        say "asking sudo for root, to install $packages: $purpose"
        # sudo drops most of the environment; none of it is needed.
        sudo -- sh "$0" "$part" || fail 'that failed. Run as root:' "    tests/setup.sh $part"
        continue
    fi
    say "installing $packages with apt-get: $purpose"
    say 'this can take a minute'
    install
    "have_$part" || fail "apt-get has installed $packages, but something is still missing." "$by_hand"
    say "$part is installed; no service was started"
done
