#!/usr/bin/env bash
# Makes the Debian package from a program that has been built:
#
#     deploy/debian/package.sh PROGRAM LICENCES OUTPUT.deb
#
# LICENCES is the text with the licences of the crates. Manual pages and completions come from the
# program itself. Needs cargo-deb, and SOURCE_DATE_EPOCH for a package that is the same every time.
set -euo pipefail

program=$(realpath "$1") licences=$(realpath "$2") output=$(realpath -m "$3")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

made=$stage/release
mkdir -p "$made/completion"
install -m 755 "$program" "$made/rsolv-exporter"
install -m 644 "$licences" "$made/licenses.txt"
"$program" man "$made/man"
for shell in bash zsh fish; do
  "$program" completion "$shell" >"$made/completion/$shell"
done
cp CHANGELOG.md "$made/changelog"
gzip -9n "$made"/man/* "$made/changelog"

export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
CARGO_TARGET_DIR=$stage cargo deb --quiet --fast --no-build --no-strip --output "$stage/rsolv-exporter.deb" >/dev/null

# cargo-deb leaves out the sums by which `dpkg --verify` finds files that have changed.
dpkg-deb --raw-extract "$stage/rsolv-exporter.deb" "$stage/root"
(cd "$stage/root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
chmod 644 "$stage/root/DEBIAN/md5sums"
find "$stage/root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --build --root-owner-group "$stage/root" "$output" >/dev/null
