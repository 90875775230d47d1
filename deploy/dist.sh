#!/usr/bin/env bash
# Makes a release in target/dist/: an archive and a Debian package with the stripped binary and all that
# belongs to it, a list of the dependencies (SBOM, CycloneDX), a list of their licences, checksums.
# The tools it needs are built into .tools/ the first time.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
say() { printf '== %s\n' "$*"; }

export PATH="$PWD/.tools/cargo/bin:$PATH"
for tool in cargo-deb@3.8.0 cargo-cyclonedx@0.5.9 cargo-deny@0.20.2; do
  if ! command -v "${tool%@*}" >/dev/null; then
    say "Building $tool (some minutes, once)"
    cargo install --quiet --locked --root .tools/cargo "$tool"
  fi
done

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
host=$(rustc -vV | sed -n 's/^host: //p')
target=${CARGO_TARGET_DIR:-target}
dist=target/dist
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
rm -rf "$dist"
mkdir -p "$dist"

say "Building $version for $host"
cargo build --release --locked --bin rsolv-exporter
binary=$target/release/rsolv-exporter
"$binary" --version

say "Listing dependencies and licences"
cargo cyclonedx --quiet --format json --spec-version 1.5 --target "$host" --override-filename rsolv-exporter.cdx
mv rsolv-exporter.cdx.json "$dist/"
cargo deny --config deploy/deny.toml list --format human --layout crate >"$dist/licenses.txt"

say "Packing the archive"
name=rsolv-exporter-$version-$host
stage=$dist/$name
mkdir -p "$stage"
install -m 755 "$binary" "$stage/rsolv-exporter"
cp "$dist/licenses.txt" "$dist/rsolv-exporter.cdx.json" "$stage/"
# What is in the repository, and of it only what is committed.
for path in LICENSE README.md CHANGELOG.md queries alerts dashboards deploy; do
  if git cat-file -e "HEAD:$path" 2>/dev/null; then git archive HEAD "$path" | tar -x -C "$stage"; fi
done
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$dist" -c "$name" |
  gzip -n -9 >"$dist/$name.tar.gz"
rm -r "$stage"

if grep -q '^\[package.metadata.deb\]' Cargo.toml; then
  say "Packing the Debian package"
  cargo deb --no-build --no-strip --output "$dist/"
fi

(cd "$dist" && sha256sum -- * >SHA256SUMS)
say "In $dist:"
(cd "$dist" && ls -l)
