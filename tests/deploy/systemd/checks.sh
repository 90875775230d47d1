#!/usr/bin/env bash
# Runs inside the machine that run.sh boots. Each check is a function, run in a shell of its own that ends at the
# first command that fails; what it prints is shown then. Each begins with what the one before has left.
set -euo pipefail


# The n-th block of code under a heading of the document, as it is printed there.
block() { # HEADING N
  awk -v heading="### $1" -v n="$2" '
    !fence && /^##/ { inside = $0 == heading || "#" $0 == heading }
    inside && /^```/ { fence = !fence; if (fence) ++count; next }
    inside && fence && count == n' /test/README.md
}
# Runs that block, with this machine's file of the package.
documented() { # HEADING N
  local commands
  commands=$(block "$1" "$2")
  [[ -n $commands ]] || { echo "README.md has no block $2 under $1"; return 1; }
  commands=${commands//.\/rsolv-exporter_0.1.0-1_amd64.deb//test/rsolv-exporter.deb}
  printf '%s\n' "$commands"
  bash -euo pipefail -c "$commands"
}
# Writes a file that the document prints, to the path in its first line.
documented_file() { # HEADING N
  local text path
  text=$(block "$1" "$2")
  path=$(sed -n '1s/^# //p' <<<"$text")
  [[ $path == /* ]] || { echo "no path in the first line of block $2 under $1"; return 1; }
  mkdir -p "${path%/*}"
  printf '%s\n' "$text" >"$path"
}

fails() {
  if "$@"; then
    echo "this should have failed: $*"
    return 1
  fi
}

wait_for() { # SECONDS COMMAND...
  local seconds=$1
  shift
  for ((i = 0; i < seconds * 10; i++)); do
    "$@" >/dev/null 2>&1 && return 0
    sleep 0.1
  done
  echo "waited $seconds s in vain for: $*"
  return 1
}
show() { systemctl show --value -p "$2" "$1"; }
ready() { curl -sf "http://127.0.0.1:${1:-10060}/-/ready"; }
psql_() { runuser -u postgres -- psql -X -q -v ON_ERROR_STOP=1 "$@"; }
settings() { # FOLDER LINES...
  local folder=$1
  shift
  printf '%s\n' "$@" >"/etc/$folder/rsolv-exporter.toml"
}
journal() { journalctl --no-pager -q -o cat -u rsolv-exporter "$@"; }
served() { openssl s_client -connect 127.0.0.1:10060 </dev/null 2>/dev/null | openssl x509 -noout -fingerprint; }
serves_another_than() { [[ $(served) != "$1" ]]; }
logged() { journal | grep -F "$1"; }
# The service has failed, once, and is not tried again.
ended_for_good() {
  # One that is to be started again is "activating" until then, and never "failed".
  wait_for 10 systemctl is-failed rsolv-exporter
  [[ $(show rsolv-exporter NRestarts) == 0 ]]
}
fresh() {
  systemctl stop rsolv-exporter
  systemctl reset-failed rsolv-exporter
  wait_for 5 forgotten
}

# What is younger than a second is kept.
forgotten() {
  journalctl -q --rotate
  journalctl -q --vacuum-time=1s
  [[ -z $(journal) ]]
}

# What needs a certificate of a web server's: a key that only a group may read, as the package ssl-cert has it.
certificate() {
  getent group ssl-cert >/dev/null || groupadd --system ssl-cert
  chgrp ssl-cert /etc/ssl/private
  chmod 710 /etc/ssl/private
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=tested -keyout /etc/ssl/private/tested.key \
    -out /etc/ssl/certs/tested.crt 2>/dev/null
}

url='postgres://rsolv_exporter@db.example.com:5432/rsolv'

# The checks

a_fresh_package_starts_nothing_and_says_what_is_missing() {
  cd /test
  documented Install 1
  [[ $(systemctl is-enabled rsolv-exporter || true) == disabled ]]
  [[ $(show rsolv-exporter ActiveState) == inactive ]]
  fails systemctl start rsolv-exporter
  ended_for_good
  journal -p err | grep -F 'database.url: is required'
}

no_file_of_the_package_is_damaged() {
  [[ -z $(dpkg --verify rsolv-exporter) ]]
  test -s /var/lib/dpkg/info/rsolv-exporter.md5sums
}

the_package_is_lintian_clean() {
  lintian --tag-display-limit 0 --fail-on error,warning /test/rsolv-exporter.deb
}

links_between_packaged_documents_lead_somewhere() {
  local page target
  while read -r page; do
    while read -r target; do
      test -e "${page%/*}/${target%%#*}" || { echo "$page: $target"; return 1; }
    done < <(grep -oP '\]\(\K[^)#:]+(?=[#)])' "$page")
  done < <(find /usr/share/rsolv-exporter -name '*.md')
}

the_shell_completes_commands() {
  bash -c '
    source /usr/share/bash-completion/bash_completion
    _completion_loader rsolv-exporter || [[ $? == 124 ]]
    COMP_WORDS=(rsolv-exporter hea) COMP_CWORD=1
    complete -p rsolv-exporter
    "$(complete -p rsolv-exporter | grep -oP "(?<=-F )\S+")" rsolv-exporter hea rsolv-exporter
    [[ ${COMPREPLY[*]} == healthcheck ]]'
  zcat /usr/share/man/man1/rsolv-exporter-check.1.gz | grep -q '^.SH SYNOPSIS'
}

without_a_password_it_starts_and_says_what_it_lacks() {
  documented Install 2 <<<$'it is; "secret"\nit is; "secret"'
  settings rsolv-exporter '[database]' "url = \"$url\"" '[poll]' 'interval = "1s"'
  systemctl start rsolv-exporter
  wait_for 20 logged 'the server wants a password'
  [[ $(show rsolv-exporter ActiveState) == active ]]
}

what_fails_is_an_error_in_the_journal_and_in_the_status() {
  journal -p err | grep -F 'the server wants a password'
  journal -p err >/tmp/errors
  fails grep -F 'msg=listening' /tmp/errors
  journal -p info | grep -F 'msg=listening'
  show rsolv-exporter StatusText | grep -F 'trying again after a failure (auth)'
  systemctl status rsolv-exporter --no-pager | grep -F 'Status: "trying again'
}

with_the_password_it_works() {
  documented Install 3 <<<'it is; "secret"'
  [[ $(stat -c '%U %a' /etc/rsolv-exporter/credentials/database-password) == 'root 600' ]]
  [[ $(stat -c '%U %a' /etc/rsolv-exporter/credentials) == 'root 700' ]]
  systemctl stop rsolv-exporter
  documented Install 4
  wait_for 20 ready
  [[ $(stat -c %a /var/lib/rsolv-exporter/state) == 600 ]]
  # Without a link to a network: it does not wait for one.
  systemctl show -p Wants -p After rsolv-exporter >/tmp/needs
  grep -F network.target /tmp/needs
  fails grep -F network-online /tmp/needs
}

commands_work_as_the_unit_would_run_them() {
  documented 'Commands of an installed exporter' 1 | tee /tmp/commands
  grep -F 'All good.' /tmp/commands
  # Whether it runs or not, and with its exit status.
  systemctl stop rsolv-exporter
  rsolv-exporter check --unit | grep -F 'All good.'
  rsolv-exporter once --unit | grep '^rsolv_validation_executions_open{'
  local status=0
  rsolv-exporter rows --unit 'nonsense{' || status=$?
  [[ $status == 2 ]]
  fails rsolv-exporter check --unit=none
  systemctl start rsolv-exporter
  wait_for 20 ready
}

reload_and_sighup_end_nothing() {
  local before
  before=$(show rsolv-exporter MainPID)
  systemctl reload rsolv-exporter
  kill -HUP "$before"
  wait_for 10 logged 'SIGHUP: there is no web.config_file'
  sleep 0.5
  [[ $(show rsolv-exporter MainPID) == "$before" && $(show rsolv-exporter ActiveState) == active ]]
}

certificates_are_taken_at_a_reload() {
  local old
  certificate
  documented 'TLS for scrapes' 1
  documented_file 'TLS for scrapes' 2
  documented_file 'TLS for scrapes' 3
  documented 'TLS for scrapes' 4
  wait_for 20 curl -skf https://127.0.0.1:10060/-/healthy
  old=$(served)
  certificate
  documented 'TLS for scrapes' 1
  systemctl reload rsolv-exporter
  wait_for 20 serves_another_than "$old"
  rm -r /etc/systemd/system/rsolv-exporter.service.d /etc/rsolv-exporter/web-config.yml
  systemctl daemon-reload
  systemctl restart rsolv-exporter
}

without_ipv6_it_listens_on_ipv4() {
  wait_for 20 ready
  curl -sf 'http://[::1]:10060/-/ready'
  mkdir -p /etc/systemd/system/rsolv-exporter.service.d
  printf '[Service]\nRestrictAddressFamilies=\nRestrictAddressFamilies=AF_INET AF_UNIX\n' \
    >/etc/systemd/system/rsolv-exporter.service.d/test.conf
  systemctl daemon-reload
  systemctl restart rsolv-exporter
  wait_for 20 ready
  fails curl -sf 'http://[::1]:10060/-/ready'
  rm -r /etc/systemd/system/rsolv-exporter.service.d
  systemctl daemon-reload
  systemctl restart rsolv-exporter
  wait_for 20 ready
}

a_missing_credential_is_not_tried_for_ever() {
  fresh
  mkdir -p /etc/systemd/system/rsolv-exporter.service.d
  printf '[Service]\nLoadCredential=tls:/nowhere\n' >/etc/systemd/system/rsolv-exporter.service.d/test.conf
  systemctl daemon-reload
  fails systemctl start rsolv-exporter
  ended_for_good
  rm -r /etc/systemd/system/rsolv-exporter.service.d
  systemctl daemon-reload
  systemctl reset-failed rsolv-exporter
  systemctl start rsolv-exporter
}

a_state_that_root_put_back_is_named_with_its_remedy() {
  fresh
  cp /var/lib/rsolv-exporter/state /root/state
  cp /root/state /var/lib/rsolv-exporter/new && mv /var/lib/rsolv-exporter/new /var/lib/rsolv-exporter/state
  chmod 600 /var/lib/rsolv-exporter/state
  fails systemctl start rsolv-exporter
  ended_for_good
  local remedy
  remedy=$(journal -p err | grep -oP '(?<=\()chown [^)]*')
  echo "$remedy"
  bash -c "$remedy"
  systemctl reset-failed rsolv-exporter
  systemctl start rsolv-exporter
  wait_for 20 ready
  journal | grep -F 'goes on from the state'
  # As the document says it.
  systemctl stop rsolv-exporter
  cp /root/state /tmp/state
  cd /tmp
  documented 'Moving the state file' 1
  systemctl start rsolv-exporter
  wait_for 20 ready
  # As on a new machine.
  systemctl stop rsolv-exporter
  rm -r /var/lib/private/rsolv-exporter /var/lib/rsolv-exporter
  documented 'Moving the state file' 2
  journalctl -q --rotate
  journalctl -q --vacuum-time=1s
  systemctl start rsolv-exporter
  wait_for 20 ready
  logged 'goes on from the state'
}

further_databases_are_instances() {
  psql_ -c 'CREATE DATABASE staging'
  psql_ -d staging -f /test/schema.sql >/dev/null
  psql_ -d staging -f /usr/share/rsolv-exporter/deploy/postgres/role.sql >/dev/null
  documented 'Several databases' 1
  settings rsolv-exporter@staging '[database]' "url = \"${url%/rsolv}/staging\"" '[web]' 'listen_address = ":10061"'
  documented 'Several databases' 2 <<<'it is; "secret"'
  wait_for 20 ready 10061
  ready
  wait_for 20 test -s /var/lib/rsolv-exporter@staging/state
  [[ $(show rsolv-exporter@staging NRestarts) == 0 ]]
}

a_copy_of_the_unit_has_files_of_its_own() {
  cp /lib/systemd/system/rsolv-exporter.service /etc/systemd/system/third.service
  cp -a /etc/rsolv-exporter /etc/third
  settings third '[database]' "url = \"${url%/rsolv}/staging\"" '[web]' 'listen_address = ":10062"'
  systemctl daemon-reload
  systemctl start third
  wait_for 20 ready 10062
  test -s /var/lib/third/state
  systemctl stop third
  rm -r /etc/systemd/system/third.service /etc/third
}

peer_authentication_needs_no_password() {
  local hba=/etc/postgresql/15/main/pg_hba.conf
  rm /etc/rsolv-exporter/credentials/database-password
  block 'Peer authentication' 1 | cat - "$hba" >/tmp/hba
  cat /tmp/hba >"$hba"
  block 'Peer authentication' 2 >>"${hba%hba.conf}ident.conf"
  psql_ -c 'SELECT pg_reload_conf()' >/dev/null
  block 'Peer authentication' 3 >/etc/rsolv-exporter/rsolv-exporter.toml
  systemctl restart rsolv-exporter
  wait_for 20 ready
  rsolv-exporter check --unit | grep -F 'All good.'
}

a_socket_unit_is_enough() {
  fresh
  documented_file 'Socket activation' 1
  documented_file 'Socket activation' 2
  documented 'Socket activation' 3
  [[ $(show rsolv-exporter ActiveState) == inactive ]]
  # The first connection starts it.
  curl -sf http://127.0.0.1:10060/-/healthy
  [[ $(show rsolv-exporter ActiveState) == active ]]
  # While it restarts, connections wait.
  systemctl restart --no-block rsolv-exporter
  curl -sf http://127.0.0.1:10060/-/healthy
  systemctl disable --now rsolv-exporter.socket
  rm -r /etc/systemd/system/rsolv-exporter.service.d /etc/systemd/system/rsolv-exporter.socket
  systemctl daemon-reload
  systemctl restart rsolv-exporter
}

an_upgrade_asks_nothing_and_restarts_what_runs() {
  local before
  wait_for 20 ready
  before=$(show rsolv-exporter MainPID),$(show rsolv-exporter@staging MainPID)
  echo '# mine' >>/etc/rsolv-exporter/rsolv-exporter.toml
  DEBIAN_FRONTEND=noninteractive apt-get -q -y install /test/next.deb </dev/null
  [[ $(dpkg-query -W -f '${Version}' rsolv-exporter) == 99.0-1 ]]
  grep -F '# mine' /etc/rsolv-exporter/rsolv-exporter.toml
  wait_for 20 ready
  wait_for 20 ready 10061
  [[ $(show rsolv-exporter MainPID) != "${before%,*}" && $(show rsolv-exporter@staging MainPID) != "${before#*,}" ]]
  journal | tail -n 20 | grep -F 'goes on from the state'
}

it_is_stopped_at_once() {
  local started=$SECONDS
  systemctl stop rsolv-exporter
  [[ $((SECONDS - started)) -lt 10 && $(show rsolv-exporter Result) == success ]]
  systemctl start rsolv-exporter
}

removal_keeps_what_purging_takes() {
  apt-get -q -y remove rsolv-exporter
  fails systemctl is-active rsolv-exporter
  fails systemctl is-active rsolv-exporter@staging
  test -s /etc/rsolv-exporter/rsolv-exporter.toml -a -s /var/lib/private/rsolv-exporter/state
  apt-get -q -y purge rsolv-exporter
  find / -xdev -name '*rsolv-exporter*' -not -path '/proc/*' -not -path '/test/*' -not -path '/var/log/*' \
    -not -path '/run/*' -not -path '/sys/*' -not -path '/tmp/*' -not -path '/var/lib/systemd/*' >/tmp/left
  fails grep . /tmp/left
}

if [[ $# == 1 ]]; then
  "$1"
  exit
fi

echo '127.0.0.1 db.example.com' >>/etc/hosts
wait_for 30 runuser -u postgres -- psql -X -c 'SELECT 1'
psql_ -c 'CREATE DATABASE rsolv' && psql_ -d rsolv -f /test/schema.sql >/dev/null
psql_ -d rsolv <<'SQL'
INSERT INTO repositories (forge_type, namespace, name, full_path, first_seen_at, last_activity_at, inserted_at, updated_at)
VALUES ('github', 'org', 'app', 'org/app', now(), now(), now(), now());
INSERT INTO validation_executions (repository_id, issue_number, commit_sha, status, started_at, completed_at, inserted_at, updated_at)
SELECT 1, 1, 'c', CASE WHEN n % 2 = 0 THEN 'failed' ELSE 'completed' END::execution_status, now(), now(), now(), now()
FROM generate_series(1, 10) n;
SQL


passed=0
failed=0
mapfile -t names < <(sed -n '/^# The checks$/,$ s/^\([a-z0-9_]*\)() {$/\1/p' "$0")
for name in "${names[@]}"; do
  started=$EPOCHREALTIME
  if "$0" "$name" >/tmp/check.log 2>&1; then
    passed=$((passed + 1))
    verdict=ok
  else
    failed=$((failed + 1))
    verdict=FAILED
  fi
  printf '%-7s %s (%.1f s)\n' "$verdict" "$name" "$(awk "BEGIN { print $EPOCHREALTIME - $started }")"
  if [[ $verdict == FAILED ]]; then
    sed 's/^/        /' /tmp/check.log
    journalctl --no-pager -q -n 10 -o short-monotonic -u 'rsolv-exporter*' | sed 's/^/        journal: /'
  fi
done
echo "$passed passed, $failed failed"
