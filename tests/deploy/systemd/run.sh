#!/usr/bin/env bash
# Boots a Debian with a real systemd in a container, installs the package there as deploy/README.md
# says, and looks at what happens. Ends with one line: N passed, N failed.
#
# The first time it makes that Debian with mmdebstrap (about two minutes) and builds cargo-deb; both stay in
# .tools/. The network is a private one without a link. Needs root, as systemd-nspawn does.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

say() { printf 'test-systemd: %s\n' "$*"; }

[[ $(id -u) == 0 ]] || { say "run it as root: it boots a container with systemd-nspawn" >&2; exit 1; }
tests/setup.sh build systemd

packages=systemd,systemd-sysv,dbus,libnss-systemd,postgresql,ca-certificates,curl,lintian,bash-completion
root=.tools/systemd-root
if [[ $(cat "$root.packages" 2>/dev/null) != "$packages" ]]; then
  say "making a Debian to boot in $root"
  rm -rf "$root"
  mmdebstrap --quiet --variant=minbase --include="$packages" bookworm "$root"
  echo "$packages" >"$root.packages"
fi

export PATH="$PWD/.tools/cargo/bin:$PATH"
if ! command -v cargo-deb >/dev/null; then
  say "building cargo-deb (some minutes, once)"
  cargo install --quiet --locked --root .tools/cargo cargo-deb@3.8.0
fi
program=${RSOLV_EXPORTER_BIN:-}
if [[ -z $program ]]; then
  cargo build --quiet --locked --bin rsolv-exporter
  program=${CARGO_TARGET_DIR:-target}/debug/rsolv-exporter
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/test" "$work/results"
say "making the package"
strip -o "$work/rsolv-exporter" "$program"
echo "None: this package is for a test." >"$work/licenses.txt"
# It is unpacked once and thrown away.
export DPKG_DEB_COMPRESSOR_TYPE=gzip DPKG_DEB_COMPRESSOR_LEVEL=1
deploy/debian/package.sh "$work/rsolv-exporter" "$work/licenses.txt" "$work/test/rsolv-exporter.deb"
# The next release: it touches everything but the settings.
dpkg-deb --raw-extract "$work/test/rsolv-exporter.deb" "$work/next"
sed -i 's/^Version: .*/Version: 99.0-1/' "$work/next/DEBIAN/control"
find "$work/next/usr" -name '*.toml' -exec sed -i '1i # A newer release.' {} +
dpkg-deb --build --root-owner-group "$work/next" "$work/test/next.deb" >/dev/null

cp tests/deploy/systemd/checks.sh tests/support/schema.sql deploy/README.md "$work/test/"
cat >"$work/test/checks.service" <<'UNIT'
[Unit]
After=postgresql.service
Wants=postgresql.service
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
StandardOutput=file:/results/output
StandardError=file:/results/output
ExecStart=/test/checks.sh
TimeoutStartSec=300
UNIT

say "booting"
started=$SECONDS
touch "$work/results/output"
tail -n +1 -f "$work/results/output" &
tail=$!
# --volatile: what is done in there is gone afterwards.
timeout 400 systemd-nspawn --quiet --directory="$root" --volatile=overlay --boot --register=no --keep-unit \
  --private-network --hostname=tested --bind-ro="$work/test:/test" --bind="$work/results:/results" \
  --bind-ro="$work/test/checks.service:/etc/systemd/system/checks.service" \
  -- systemd.wants=checks.service systemd.log_level=warning >"$work/console" 2>&1 </dev/null || true
sleep 0.2
kill "$tail"
wait "$tail" 2>/dev/null || true
say "booted, checked and powered off in $((SECONDS - started)) s"
if ! tail -n 1 "$work/results/output" | grep -Eq '^[0-9]+ passed, [0-9]+ failed$'; then
  say "the checks did not come to their end; the console's last lines:" >&2
  tail -n 30 "$work/console" >&2
  echo "0 passed, 1 failed"
  exit 1
fi
tail -n 1 "$work/results/output" | grep -q ', 0 failed$'
