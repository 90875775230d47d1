#!/usr/bin/env bash
# Licences, bans and sources of every dependency, and known vulnerabilities where the database of
# advisories can be fetched; where it cannot, that is said and is no failure. cargo-deny is built into
# .tools/ the first time.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/.tools/cargo/bin:$PATH"
if ! command -v cargo-deny >/dev/null; then
  echo "Building cargo-deny (some minutes, once)"
  cargo install --quiet --locked --root .tools/cargo cargo-deny@0.20.2
fi

cargo deny --config deploy/deny.toml check bans licenses sources
if output=$(cargo deny --config deploy/deny.toml check advisories 2>&1); then
  printf '%s\n' "$output"
elif grep -q 'failed to fetch advisory database' <<<"$output"; then
  echo "advisories NOT CHECKED: their database cannot be fetched from here"
else
  printf '%s\n' "$output" >&2
  exit 1
fi
