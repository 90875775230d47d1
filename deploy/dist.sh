#!/usr/bin/env bash
# Makes a release of what is committed in target/dist/: an archive and a Debian package with the
# stripped binary and all that belongs to it, a list of the dependencies (SBOM, CycloneDX), their
# licences, checksums. The tools it needs are built into .tools/ the first time.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
say() { printf '== %s\n' "$*"; }

if ! git diff --quiet HEAD --; then
  echo "dist.sh: there are changes that are not committed; a release is of a commit" >&2
  exit 1
fi
export PATH="$PWD/.tools/cargo/bin:$PATH"
for tool in cargo-deb@3.8.0 cargo-cyclonedx@0.5.9; do
  if ! command -v "${tool%@*}" >/dev/null; then
    say "Building $tool (some minutes, once)"
    cargo install --quiet --locked --root .tools/cargo "$tool"
  fi
done

say "Checking the dependencies"
deploy/check-dependencies.sh

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
host=$(rustc -vV | sed -n 's/^host: //p')
name=rsolv-exporter-$version-$host
dist=$PWD/target/dist
stage=$dist/$name
rm -rf "$dist"
mkdir -p "$stage"

# The same commit gives the same bytes with the same toolchain and libraries, wherever the repository
# and Cargo's files are: no time of the build and no path of this machine is in them. In a folder of
# its own, for these flags differ from those of other builds.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
cargo_home=$(cd "${CARGO_HOME:-$HOME/.cargo}" && pwd -P)
export CARGO_TARGET_DIR=$PWD/target/dist-build
export CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=$PWD=."$'\x1f'"--remap-path-prefix=$cargo_home=/cargo"

# Every text once, with the crates that it came with.
licence_texts() {
  local crate text sum
  local -A crates=() texts=()
  while read -r crate; do
    for text in "$cargo_home"/registry/src/*/"$crate"/{LICEN[SC]E,COPYING,NOTICE}*; do
      [[ -f $text ]] || continue
      sum=$(sha256sum <"$text")
      crates[$sum]+=" $crate"
      texts[$sum]=$text
    done
  done < <(cargo tree --manifest-path "$copy/Cargo.toml" --edges normal,no-proc-macro --target "$host" \
    --prefix none --format '{p}' | awk '$1 != "rsolv-exporter" { print $1 "-" substr($2, 2) }' | LC_ALL=C sort -u)
  while read -r sum; do
    printf '\n=== %s\n\n' "${crates[$sum]# }"
    cat "${texts[$sum]}"
  done < <(printf '%s\n' "${!texts[@]}" | LC_ALL=C sort)
}

say "Building $version for $host"
cargo build --release --locked --bin rsolv-exporter
install -m 755 "$CARGO_TARGET_DIR/release/rsolv-exporter" "$stage/"
"$stage/rsolv-exporter" --version

say "Listing dependencies and licences"
# Of a copy that does not know the dependencies of the tests: cargo would list those as well.
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git archive HEAD Cargo.lock build.rs src | tar -x -C "$copy"
awk '/^\[/ { skip = $0 == "[dev-dependencies]" } !skip' Cargo.toml >"$copy/Cargo.toml"
(cd "$copy" && cargo cyclonedx --quiet --format json --spec-version 1.5 --target "$host" --override-filename sbom)
sed "s|path+file://$copy#||" "$copy/sbom.json" >"$dist/rsolv-exporter.cdx.json"
{
  echo "Licences of the crates in rsolv-exporter $version; below, the texts that come with them."
  echo
  cargo deny --manifest-path "$copy/Cargo.toml" --config deploy/deny.toml list --format human --layout crate
  licence_texts
} >"$dist/licenses.txt"

say "Packing the archive"
cp "$dist/licenses.txt" "$dist/rsolv-exporter.cdx.json" "$stage/"
"$stage/rsolv-exporter" man "$stage/man"
mkdir "$stage/completion"
for shell in bash zsh fish; do
  "$stage/rsolv-exporter" completion "$shell" >"$stage/completion/$shell"
done
git archive HEAD LICENSE README.md CHANGELOG.md doc queries alerts dashboards deploy | tar -x -C "$stage"
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$dist" -c "$name" |
  gzip -n -9 >"$dist/$name.tar.gz"
rm -r "$stage"

say "Packing the Debian package"
deploy/debian/package.sh "$CARGO_TARGET_DIR/release/rsolv-exporter" "$dist/licenses.txt" \
  "$dist/rsolv-exporter_$version-1_$(dpkg --print-architecture).deb"

(cd "$dist" && sha256sum -- * >SHA256SUMS)
say "In target/dist:"
ls -l "$dist"
